//! The contract's app (spec/formats.md) on H3Z: contract PORT [polled]
//!
//! A stream's handler gets its writer once the head is on its way, as H3Z's counter example has it. With "polled" each
//! stream asks for its writer in the request's handler, ten times in 100 ms, as H3Z's text example has it.

const std = @import("std");
const h3 = @import("h3");
const xev = h3.xev;

pub const std_options: std.Options = .{ .log_level = .err };

const rate = 200;
const part = million[0..65536];
var million: [1_000_000]u8 = undefined;

var general = std.heap.GeneralPurposeAllocator(.{}){};
const memory = general.allocator();

var server: h3.server.serve.Server = undefined;
var opened: usize = 0;
var handed: usize = 0;
var log_began: ?i64 = null;

pub fn main() !void {
    @memset(&million, 'x');
    const arguments = try std.process.argsAlloc(memory);
    const port = try std.fmt.parseInt(u16, arguments[1], 10);
    var config = h3.H3Config.development();
    config.router.enable_cache = false; // it calls what it has cached with a request, also what wants a writer
    var app = try h3.H3App.initWithConfig(memory, config);
    _ = try app.get("/ready", ready);
    _ = try app.get("/count", count);
    _ = try app.get("/flooded", flooded);
    _ = try app.get("/release", release);
    _ = try app.get("/early", early);
    if (arguments.len > 2 and std.mem.eql(u8, arguments[2], "polled")) {
        const names = .{ "ticks", "first", "quiet", "busy", "gated", "late", "open", "flood", "large", "endless", "echo", "log" };
        inline for (names) |name| _ = try app.get("/" ++ name, polled);
    } else {
        _ = try app.get("/first", first);
        _ = try app.get("/quiet", quiet);
        _ = try app.get("/busy", busy);
        _ = try app.get("/late", late);
        _ = try app.get("/open", open);
        _ = try app.get("/flood", flood);
        _ = try app.get("/large", large);
        _ = try app.get("/endless", endless);
        _ = try app.get("/ticks", asking(ticks));
        _ = try app.get("/gated", asking(gated));
        _ = try app.get("/echo", asking(echo));
        _ = try app.get("/log", asking(log));
    }
    server = h3.server.serve.Server.init(memory, &app);
    try server.listen(.{ .host = "127.0.0.1", .port = port });
}

// -- plain answers

fn ready(event: *h3.Event) !void {
    try event.sendText("ready");
}

fn count(event: *h3.Event) !void {
    try number(event, opened);
}

fn flooded(event: *h3.Event) !void {
    try number(event, handed);
}

fn number(event: *h3.Event, value: usize) !void {
    var text: [20]u8 = undefined;
    try event.sendText(try std.fmt.bufPrint(&text, "{d}", .{value}));
}

fn early(_: *h3.Event) !void {
    return error.OnPurpose;
}

// -- streams that need nothing of their request

fn first(writer: *h3.SSEWriter) !void {
    try writer.sendEvent(.{ .data = "first" });
}

fn quiet(writer: *h3.SSEWriter, loop: *xev.Loop) !void {
    try first(writer);
    try Pulse.start(writer, loop, .{ .every = 1000, .step = keepAlive });
}

fn keepAlive(pulse: *Pulse) !bool {
    try pulse.writer.sendKeepAlive();
    return true;
}

fn busy(writer: *h3.SSEWriter, loop: *xev.Loop) !void {
    try writer.sendEvent(.{ .data = "0" });
    try Pulse.start(writer, loop, .{ .every = 250, .step = busyStep });
}

fn busyStep(pulse: *Pulse) !bool {
    pulse.number += 1;
    if (pulse.number == 9) return false;
    var text: [20]u8 = undefined;
    try pulse.writer.sendEvent(.{ .data = try std.fmt.bufPrint(&text, "{d}", .{pulse.number}) });
    return true;
}

fn late(writer: *h3.SSEWriter) !void {
    try writer.sendEvent(.{ .data = "1" });
    try writer.sendEvent(.{ .data = "2" });
    return error.OnPurpose;
}

/// Only a write that fails tells H3Z that a client has left, and nothing is to be written here.
fn open(writer: *h3.SSEWriter) !void {
    opened += 1;
    try writer.sendEvent(.{ .data = "open" });
}

fn flood(writer: *h3.SSEWriter, loop: *xev.Loop) !void {
    handed = 0;
    try Pulse.start(writer, loop, .{ .every = 1, .step = floodStep });
}

fn floodStep(pulse: *Pulse) !bool {
    if (try sent(pulse.writer, .{ .data = part })) handed += part.len;
    return true;
}

fn large(writer: *h3.SSEWriter) !void {
    try writer.sendEvent(.{ .data = &million });
    writer.close();
}

/// H3Z takes whole events alone; that a client has left shows as it does in `open`.
fn endless(writer: *h3.SSEWriter) !void {
    const data = try memory.alloc(u8, 16 * 1024 * 1024);
    defer memory.free(data);
    @memset(data, 'x');
    opened += 1;
    errdefer opened -= 1;
    try writer.sendEvent(.{ .data = data });
}

/// Whether an event was taken; if not, it is to be sent again, for H3Z has no way to wait until there is room.
fn sent(writer: *h3.SSEWriter, event: h3.SSEEvent) !bool {
    writer.sendEvent(event) catch |err| return if (err == error.BackpressureDetected) false else err;
    return true;
}

/// A stream that goes on by the loop's timer, as the counter example's does.
const Pulse = struct {
    const Plan = struct {
        /// In milliseconds.
        every: u64,
        /// What is done each time; returns whether the stream goes on.
        step: *const fn (*Pulse) anyerror!bool,
        number: usize = 0,
    };

    writer: *h3.SSEWriter,
    every: u64,
    step: *const fn (*Pulse) anyerror!bool,
    number: usize,
    timer: xev.Timer,
    completion: xev.Completion = undefined,

    fn start(writer: *h3.SSEWriter, loop: *xev.Loop, plan: Plan) !void {
        const self = try memory.create(Pulse);
        self.* = .{
            .writer = writer,
            .every = plan.every,
            .step = plan.step,
            .number = plan.number,
            .timer = try xev.Timer.init(),
        };
        self.timer.run(loop, &self.completion, self.every, Pulse, self, tick);
    }

    fn tick(
        given: ?*Pulse,
        loop: *xev.Loop,
        completion: *xev.Completion,
        result: xev.Timer.RunError!void,
    ) xev.CallbackAction {
        const self = given.?;
        if (self.goesOn(result)) {
            self.timer.run(loop, completion, self.every, Pulse, self, tick);
        } else {
            self.writer.close();
            self.timer.deinit();
            memory.destroy(self);
        }
        return .disarm;
    }

    fn goesOn(self: *Pulse, result: xev.Timer.RunError!void) bool {
        result catch return false;
        return self.step(self) catch false;
    }
};

// -- streams that need something of their request

/// H3Z gives a stream's handler its writer and no request, so that what it needs is kept here until it is called.
const Asked = struct {
    last: ?[]const u8,
    key: ?[]const u8,
    data: ?[]const u8,
    event: ?[]const u8,
    id: ?[]const u8,
    arena: std.heap.ArenaAllocator,

    fn of(event: *h3.Event) !Asked {
        var arena = std.heap.ArenaAllocator.init(memory);
        const last = try copied(&arena, event.getHeader("Last-Event-ID"));
        const key = try copied(&arena, event.getQuery("key"));
        const data = try copied(&arena, event.getQuery("data"));
        const kind = try copied(&arena, event.getQuery("event"));
        const id = try copied(&arena, event.getQuery("id"));
        return .{ .last = last, .key = key, .data = data, .event = kind, .id = id, .arena = arena };
    }

    fn copied(arena: *std.heap.ArenaAllocator, text: ?[]const u8) !?[]const u8 {
        return if (text) |known| try arena.allocator().dupe(u8, known) else null;
    }
};

const Stream = *const fn (Asked, *h3.SSEWriter, *xev.Loop) anyerror!void;
const Kept = struct { asked: Asked, stream: Stream };
const places = 64;
var kept: [places]?Kept = .{null} ** places;

/// One function for each place, for a function is all that can be given to H3Z.
const takers = takers: {
    var found: [places]*const fn (*h3.SSEWriter, *xev.Loop) anyerror!void = undefined;
    for (&found, 0..) |*one, place| one.* = Taker(place).take;
    break :takers found;
};

fn Taker(comptime place: usize) type {
    return struct {
        fn take(writer: *h3.SSEWriter, loop: *xev.Loop) anyerror!void {
            const taken = kept[place].?;
            kept[place] = null;
            defer taken.asked.arena.deinit();
            try taken.stream(taken.asked, writer, loop);
        }
    };
}

/// The handler of a request whose stream needs something of it. It sets what H3Z sets for a handler of a stream.
fn asking(comptime stream: Stream) fn (*h3.Event) anyerror!void {
    return struct {
        fn handler(event: *h3.Event) anyerror!void {
            const place = for (kept, 0..) |one, place| {
                if (one == null) break place;
            } else return error.NoPlace;
            if (event.getQuery("header")) |value| try event.setHeader("X-Echo", value);
            try event.startSSE();
            kept[place] = .{ .asked = try Asked.of(event), .stream = stream };
            event.sse_typed_handler = .{ .stream_with_loop = takers[place] };
            event.sse_handler_type = .stream_with_loop;
        }
    }.handler;
}

fn ticks(asked: Asked, writer: *h3.SSEWriter, _: *xev.Loop) !void {
    var retry: ?u32 = 3000; // H3Z has no event without data, so that it goes with the first one
    var next: usize = 1;
    if (asked.last) |last| {
        const known = std.fmt.parseInt(usize, last, 10) catch 0;
        if (known >= 1 and known <= 3) {
            next = known + 1;
        } else {
            try writer.sendEvent(.{ .data = last, .event = "gap", .retry = retry });
            retry = null;
        }
    }
    while (next <= 3) : (next += 1) {
        const text = [1]u8{'0' + @as(u8, @intCast(next))};
        try writer.sendEvent(.{ .data = &text, .id = &text, .retry = retry });
        retry = null;
    }
    writer.close();
}

fn echo(asked: Asked, writer: *h3.SSEWriter, _: *xev.Loop) !void {
    try writer.sendEvent(.{ .data = asked.data orelse "", .event = asked.event, .id = asked.id });
    writer.close();
}

/// Whoever waits at a gate, and the gate that is open already.
const Gate = struct { key: []const u8, waits: ?*h3.SSEWriter };
var gates = std.ArrayList(Gate).init(memory);

fn gated(asked: Asked, writer: *h3.SSEWriter, _: *xev.Loop) !void {
    try writer.sendEvent(.{ .data = "before" });
    const key = asked.key orelse "";
    for (gates.items) |gate| {
        if (gate.waits == null and std.mem.eql(u8, gate.key, key)) return pass(writer);
    }
    try gates.append(.{ .key = try memory.dupe(u8, key), .waits = writer });
}

fn release(event: *h3.Event) !void {
    const key = event.getQuery("key") orelse "";
    for (gates.items) |*gate| {
        const writer = gate.waits orelse continue;
        if (!std.mem.eql(u8, gate.key, key)) continue;
        gate.waits = null;
        pass(writer) catch {}; // its client has left
    }
    try gates.append(.{ .key = try memory.dupe(u8, key), .waits = null });
    try event.sendText("release");
}

fn pass(writer: *h3.SSEWriter) !void {
    defer writer.close();
    try writer.sendEvent(.{ .data = "after" });
}

fn log(asked: Asked, writer: *h3.SSEWriter, loop: *xev.Loop) !void {
    if (log_began == null) log_began = std.time.milliTimestamp();
    const last = if (asked.last) |last| try std.fmt.parseInt(usize, last, 10) else published();
    try Pulse.start(writer, loop, .{ .every = 1000 / rate, .step = logStep, .number = last });
}

fn logStep(pulse: *Pulse) !bool {
    while (pulse.number < published()) {
        var text: [20]u8 = undefined;
        const id = try std.fmt.bufPrint(&text, "{d}", .{pulse.number + 1});
        if (!try sent(pulse.writer, .{ .data = id, .id = id })) return true;
        pulse.number += 1;
    }
    return true;
}

fn published() usize {
    return @intCast(@divTrunc((std.time.milliTimestamp() - log_began.?) * rate, 1000));
}

// -- the other order

fn polled(event: *h3.Event) !void {
    try event.startSSE();
    var attempts: usize = 0;
    const writer = while (attempts < 10) : (attempts += 1) {
        break event.getSSEWriter() catch |err| {
            if (err != error.ConnectionNotReady) return err;
            std.time.sleep(10 * std.time.ns_per_ms);
            continue;
        };
    } else return;
    defer writer.close();
    try writer.sendEvent(.{ .data = "first" });
}
