//! What H3Z gets as libxev: libxev on epoll. It does not build on io_uring, libxev's choice on Linux, for it names errors of
//! a read that this has not: error.BrokenPipe, at src/server/adapters/libxev.zig:830.

const libxev = @import("libxev");

pub usingnamespace libxev.Epoll;
pub const ThreadPool = libxev.ThreadPool;
