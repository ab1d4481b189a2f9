/* Generated from spec/lifecycle.json by `python -m docs.generate.promela`: change that, not this. */

/* states */
#define requested 0
#define sse_started 1
#define headers_sent 2
#define streaming 3
#define closed 4

/* reasons; R_none while it is not closed */
#define R_none 0
#define R_responded 1
#define R_client_gone 2
#define R_error 3
#define R_complete 4
#define R_shutdown 5
#define R_slow_consumer 6
#define R_timeout 7

/* errors that reject a trigger; accepted is none */
#define accepted 0
#define SSENotStarted 1
#define SSEAlreadyStarted 2
#define ConnectionNotReady 3
#define ResponseAlreadySent 4
#define ConnectionLost 5
#define WriterClosed 6

/* steps */
#define S_request 0
#define S_start_sse 1
#define S_set_stream_callback 2
#define S_get_sse_writer 3
#define S_await_sse_writer 4
#define S_start_sse_blocking 5
#define S_send_response 6
#define S_returns 7
#define S_fails 8
#define S_gives_up 9
#define S_checks_sse_started 10
#define S_creates_connection 11
#define S_sends_headers 12
#define S_headers 13
#define S_connection_ready 14
#define S_schedules_callback 15
#define S_calls_callback 16
#define S_hands_over_writer 17
#define S_send_event 18
#define S_send_keep_alive 19
#define S_data 20
#define S_event 21
#define S_comment 22
#define S_close 23
#define S_closes 24
#define S_closes_connection 25
#define S_cuts_connection 26
#define S_connection_closed 27
#define S_response 28
#define S_disconnect 29

byte state = requested;
byte reason = R_none;
byte owed;  /* the first digit of the status that a cell says the client gets; 0 if none does */
hidden byte before;  /* the state before the latest step */
hidden byte rejected;  /* the error of the latest trigger */
bit is_head_request;

/* how often each step was taken that an order asks for, rejected ones apart */
byte n_request;
byte n_start_sse;
byte n_set_stream_callback;
byte n_await_sse_writer;
byte n_start_sse_blocking;
byte n_returns;
byte n_checks_sse_started;
byte n_creates_connection;
byte n_sends_headers;
byte n_headers;
byte n_connection_ready;
byte n_schedules_callback;
byte n_calls_callback;
byte n_hands_over_writer;
byte n_send_event;
byte n_send_keep_alive;
byte n_data;
byte n_event;
byte n_comment;
byte n_closes_connection;
byte n_cuts_connection;
byte n_connection_closed;
byte n_response;

/* the names under which orders and properties fail: each is 0, and costs no state */
hidden byte T_01;
hidden byte T_02;
hidden byte T_03;
hidden byte T_04;
hidden byte T_05;
hidden byte T_06;
hidden byte T_07;
hidden byte T_08;
hidden byte T_09;
hidden byte T_10;
hidden byte T_11;
hidden byte T_12;
hidden byte T_13;
hidden byte T_14;
hidden byte T_15;
hidden byte T_16;
hidden byte T_17;
hidden byte T_18;
hidden byte T_19;
hidden byte T_20;
hidden byte T_21;
hidden byte T_22;
hidden byte T_23;
hidden byte T_24;
hidden byte T_25;
hidden byte T_26;
hidden byte T_27;
hidden byte T_28;
hidden byte T_29;
hidden byte T_30;
hidden byte T_31;
hidden byte T_32;
hidden byte T_33;
hidden byte T_34;
hidden byte T_35;
hidden byte T_36;
hidden byte T_37;
hidden byte T_38;
hidden byte T_39;

inline pull_start_sse() {
  if
  :: state == requested -> rejected = accepted; state = sse_started  /* L-01 */
  :: state == sse_started -> rejected = SSEAlreadyStarted  /* L-02 */
  :: state == headers_sent -> rejected = SSEAlreadyStarted  /* L-03 */
  :: state == streaming -> rejected = SSEAlreadyStarted  /* L-04 */
  :: state == closed -> rejected = ResponseAlreadySent  /* L-05 */
  fi;
  after_start_sse()
}

inline pull_send_response() {
  if
  :: state == requested -> rejected = accepted; reason = R_responded; state = closed  /* L-06 */
  :: state == sse_started -> rejected = SSEAlreadyStarted  /* L-07 */
  :: state == headers_sent -> rejected = SSEAlreadyStarted  /* L-08 */
  :: state == streaming -> rejected = SSEAlreadyStarted  /* L-09 */
  :: state == closed -> rejected = ResponseAlreadySent  /* L-10 */
  fi;
  after_send_response()
}

inline pull_send_headers() {
  if
  :: state == requested -> rejected = SSENotStarted  /* L-11 */
  :: state == sse_started -> rejected = accepted; state = headers_sent  /* L-12 */
  :: state == headers_sent -> rejected = ResponseAlreadySent  /* L-13 */
  :: state == streaming -> rejected = ResponseAlreadySent  /* L-14 */
  :: state == closed -> rejected = ConnectionLost  /* L-15 */
  fi;
  after_send_headers()
}

inline pull_get_writer() {
  if
  :: state == requested -> rejected = SSENotStarted  /* L-16 */
  :: state == sse_started -> rejected = ConnectionNotReady  /* L-17 */
  :: state == headers_sent -> rejected = accepted; state = streaming  /* L-18 */
  :: state == streaming -> rejected = accepted  /* L-19 */
  :: state == closed -> rejected = ConnectionLost  /* L-20 */
  fi;
  after_get_writer()
}

inline pull_send_event() {
  if
  :: state == requested -> rejected = SSENotStarted  /* L-21 */
  :: state == sse_started -> rejected = ConnectionNotReady  /* L-22 */
  :: state == headers_sent -> rejected = ConnectionNotReady  /* L-23 */
  :: state == streaming -> rejected = accepted  /* L-24 */
  :: state == closed -> rejected = WriterClosed  /* L-25 */
  fi;
  after_send_event()
}

inline pull_close(why) {
  if
  :: state == requested -> rejected = accepted; reason = why; if :: why == R_complete || why == R_shutdown || why == R_slow_consumer || why == R_timeout -> owed = 5 :: else fi; state = closed  /* L-26 */
  :: state == sse_started -> rejected = accepted; reason = why; if :: why == R_complete -> owed = 2 :: else fi; if :: why == R_shutdown || why == R_slow_consumer || why == R_timeout -> owed = 5 :: else fi; state = closed  /* L-27 */
  :: state == headers_sent -> rejected = accepted; reason = why; state = closed  /* L-28 */
  :: state == streaming -> rejected = accepted; reason = why; state = closed  /* L-29 */
  :: state == closed -> rejected = accepted  /* L-30 */
  fi;
  after_close()
}

inline pull_disconnect() {
  if
  :: state == requested -> rejected = accepted; reason = R_client_gone; state = closed  /* L-31 */
  :: state == sse_started -> rejected = accepted; reason = R_client_gone; state = closed  /* L-32 */
  :: state == headers_sent -> rejected = accepted; reason = R_client_gone; state = closed  /* L-33 */
  :: state == streaming -> rejected = accepted; reason = R_client_gone; state = closed  /* L-34 */
  :: state == closed -> rejected = accepted  /* L-35 */
  fi;
  after_disconnect()
}

inline pull_fail() {
  if
  :: state == requested -> rejected = accepted; reason = R_error; owed = 5; state = closed  /* L-36 */
  :: state == sse_started -> rejected = accepted; reason = R_error; owed = 5; state = closed  /* L-37 */
  :: state == headers_sent -> rejected = accepted; reason = R_error; state = closed  /* L-38 */
  :: state == streaming -> rejected = accepted; reason = R_error; state = closed  /* L-39 */
  :: state == closed -> rejected = accepted  /* L-40 */
  fi;
  after_fail()
}


inline step_request() { atomic {
  TAKES(S_request);
  before = state; rejected = accepted;
  if
  :: rejected == accepted ->
    HOLDS(T_01, n_request == 0 && state == requested);
    n_request++
  :: else
  fi;
  TOOK(S_request)
} }

inline step_start_sse() { atomic {
  TAKES(S_start_sse);
  before = state; rejected = accepted;
  pull_start_sse();
  if
  :: rejected == accepted ->
    n_start_sse++
  :: else
  fi;
  TOOK(S_start_sse)
} }

inline step_set_stream_callback() { atomic {
  TAKES(S_set_stream_callback);
  before = state; rejected = accepted;
  if
  :: rejected == accepted ->
    HOLDS(T_08, (before == requested || before == sse_started || before == closed));
    n_set_stream_callback++
  :: else
  fi;
  TOOK(S_set_stream_callback)
} }

inline step_get_sse_writer() { atomic {
  TAKES(S_get_sse_writer);
  before = state; rejected = accepted;
  pull_get_writer();
  if
  :: rejected == accepted ->
    skip
  :: else
  fi;
  TOOK(S_get_sse_writer)
} }

inline step_await_sse_writer() { atomic {
  TAKES(S_await_sse_writer);
  before = state; rejected = accepted;
  if
  :: rejected == accepted ->
    HOLDS(T_09, n_start_sse > 0);
    HOLDS(T_11, (before == sse_started || before == closed));
    n_await_sse_writer++
  :: else
  fi;
  TOOK(S_await_sse_writer)
} }

inline step_start_sse_blocking() { atomic {
  TAKES(S_start_sse_blocking);
  before = state; rejected = accepted;
  if
  :: rejected == accepted ->
    n_start_sse_blocking++
  :: else
  fi;
  TOOK(S_start_sse_blocking)
} }

inline step_send_response() { atomic {
  TAKES(S_send_response);
  before = state; rejected = accepted;
  pull_send_response();
  if
  :: rejected == accepted ->
    skip
  :: else
  fi;
  TOOK(S_send_response)
} }

inline step_returns() { atomic {
  TAKES(S_returns);
  before = state; rejected = accepted;
  if
  :: rejected == accepted ->
    HOLDS(T_07, n_returns < n_request);
    n_returns++
  :: else
  fi;
  TOOK(S_returns)
} }

inline step_fails() { atomic {
  TAKES(S_fails);
  before = state; rejected = accepted;
  pull_fail();
  if
  :: rejected == accepted ->
    skip
  :: else
  fi;
  TOOK(S_fails)
} }

inline step_gives_up() { atomic {
  TAKES(S_gives_up);
  before = state; rejected = accepted;
  pull_fail();
  if
  :: rejected == accepted ->
    skip
  :: else
  fi;
  TOOK(S_gives_up)
} }

inline step_checks_sse_started() { atomic {
  TAKES(S_checks_sse_started);
  before = state; rejected = accepted;
  if
  :: rejected == accepted ->
    HOLDS(T_10, n_start_sse > 0);
    HOLDS(T_11, (before == sse_started || before == closed));
    HOLDS(T_12, (n_returns + n_await_sse_writer + n_start_sse_blocking) > 0);
    n_checks_sse_started++
  :: else
  fi;
  TOOK(S_checks_sse_started)
} }

inline step_creates_connection() { atomic {
  TAKES(S_creates_connection);
  before = state; rejected = accepted;
  if
  :: rejected == accepted ->
    HOLDS(T_13, n_checks_sse_started > 0);
    HOLDS(T_14, (before == sse_started || before == closed));
    HOLDS(T_37, (n_closes_connection + n_cuts_connection + n_connection_closed + n_response) == 0);
    n_creates_connection++
  :: else
  fi;
  TOOK(S_creates_connection)
} }

inline step_sends_headers() { atomic {
  TAKES(S_sends_headers);
  before = state; rejected = accepted;
  pull_send_headers();
  if
  :: rejected == accepted ->
    HOLDS(T_15, n_creates_connection > 0);
    n_sends_headers++
  :: else
  fi;
  TOOK(S_sends_headers)
} }

inline step_headers() { atomic {
  TAKES(S_headers);
  before = state; rejected = accepted;
  if
  :: rejected == accepted ->
    HOLDS(T_16, n_headers < n_sends_headers);
    HOLDS(T_37, (n_closes_connection + n_cuts_connection + n_connection_closed + n_response) == 0);
    n_headers++
  :: else
  fi;
  TOOK(S_headers)
} }

inline step_connection_ready() { atomic {
  TAKES(S_connection_ready);
  before = state; rejected = accepted;
  if
  :: rejected == accepted ->
    HOLDS(T_17, n_connection_ready < n_headers);
    HOLDS(T_37, (n_closes_connection + n_cuts_connection + n_connection_closed + n_response) == 0);
    n_connection_ready++
  :: else
  fi;
  TOOK(S_connection_ready)
} }

inline step_schedules_callback() { atomic {
  TAKES(S_schedules_callback);
  before = state; rejected = accepted;
  if
  :: rejected == accepted ->
    HOLDS(T_18, n_set_stream_callback > 0);
    HOLDS(T_19, n_returns > 0);
    HOLDS(T_20, (n_schedules_callback + n_hands_over_writer) < n_connection_ready);
    n_schedules_callback++
  :: else
  fi;
  TOOK(S_schedules_callback)
} }

inline step_calls_callback() { atomic {
  TAKES(S_calls_callback);
  before = state; rejected = accepted;
  pull_get_writer();
  if
  :: rejected == accepted ->
    HOLDS(T_22, n_calls_callback < n_schedules_callback);
    n_calls_callback++
  :: else
  fi;
  TOOK(S_calls_callback)
} }

inline step_hands_over_writer() { atomic {
  TAKES(S_hands_over_writer);
  before = state; rejected = accepted;
  pull_get_writer();
  if
  :: rejected == accepted ->
    HOLDS(T_20, (n_schedules_callback + n_hands_over_writer) < n_connection_ready);
    HOLDS(T_21, (n_await_sse_writer + n_start_sse_blocking) > 0);
    n_hands_over_writer++
  :: else
  fi;
  TOOK(S_hands_over_writer)
} }

inline step_send_event() { atomic {
  TAKES(S_send_event);
  before = state; rejected = accepted;
  pull_send_event();
  if
  :: rejected == accepted ->
    n_send_event++
  :: else
  fi;
  TOOK(S_send_event)
} }

inline step_send_keep_alive() { atomic {
  TAKES(S_send_keep_alive);
  before = state; rejected = accepted;
  pull_send_event();
  if
  :: rejected == accepted ->
    n_send_keep_alive++
  :: else
  fi;
  TOOK(S_send_keep_alive)
} }

inline step_data() { atomic {
  TAKES(S_data);
  before = state; rejected = accepted;
  if
  :: rejected == accepted ->
    HOLDS(T_23, n_data < (n_send_event + n_send_keep_alive));
    HOLDS(T_27, reason != R_client_gone);
    HOLDS(T_37, (n_closes_connection + n_cuts_connection + n_connection_closed + n_response) == 0);
    HOLDS(T_39, n_headers > 0);
    n_data++
  :: else
  fi;
  TOOK(S_data)
} }

inline step_event() { atomic {
  TAKES(S_event);
  before = state; rejected = accepted;
  if
  :: rejected == accepted ->
    HOLDS(T_24, n_event < n_send_event);
    HOLDS(T_26, n_data > 0);
    HOLDS(T_27, reason != R_client_gone);
    HOLDS(T_37, (n_closes_connection + n_cuts_connection + n_connection_closed + n_response) == 0);
    n_event++
  :: else
  fi;
  TOOK(S_event)
} }

inline step_comment() { atomic {
  TAKES(S_comment);
  before = state; rejected = accepted;
  if
  :: rejected == accepted ->
    HOLDS(T_25, n_comment < n_send_keep_alive);
    HOLDS(T_26, n_data > 0);
    HOLDS(T_27, reason != R_client_gone);
    HOLDS(T_37, (n_closes_connection + n_cuts_connection + n_connection_closed + n_response) == 0);
    n_comment++
  :: else
  fi;
  TOOK(S_comment)
} }

inline step_close(why) { atomic {
  TAKES(S_close);
  before = state; rejected = accepted;
  pull_close(why);
  if
  :: rejected == accepted ->
    HOLDS(T_28, before != headers_sent || reason != R_complete || is_head_request);
    skip
  :: else
  fi;
  TOOK(S_close)
} }

inline step_closes(why) { atomic {
  TAKES(S_closes);
  before = state; rejected = accepted;
  pull_close(why);
  if
  :: rejected == accepted ->
    HOLDS(T_28, before != headers_sent || reason != R_complete || is_head_request);
    skip
  :: else
  fi;
  TOOK(S_closes)
} }

inline step_closes_connection() { atomic {
  TAKES(S_closes_connection);
  before = state; rejected = accepted;
  if
  :: rejected == accepted ->
    HOLDS(T_29, (n_closes_connection + n_cuts_connection) < n_sends_headers);
    HOLDS(T_30, (reason == R_complete || reason == R_shutdown || reason == R_timeout));
    n_closes_connection++
  :: else
  fi;
  TOOK(S_closes_connection)
} }

inline step_cuts_connection() { atomic {
  TAKES(S_cuts_connection);
  before = state; rejected = accepted;
  if
  :: rejected == accepted ->
    HOLDS(T_29, (n_closes_connection + n_cuts_connection) < n_sends_headers);
    HOLDS(T_31, (reason == R_error || reason == R_slow_consumer));
    n_cuts_connection++
  :: else
  fi;
  TOOK(S_cuts_connection)
} }

inline step_connection_closed() { atomic {
  TAKES(S_connection_closed);
  before = state; rejected = accepted;
  if
  :: rejected == accepted ->
    HOLDS(T_32, n_connection_closed < (n_closes_connection + n_cuts_connection));
    n_connection_closed++
  :: else
  fi;
  TOOK(S_connection_closed)
} }

inline step_response() { atomic {
  TAKES(S_response);
  before = state; rejected = accepted;
  if
  :: rejected == accepted ->
    HOLDS(T_33, before == closed);
    HOLDS(T_34, n_response < n_request);
    HOLDS(T_35, n_sends_headers == 0);
    HOLDS(T_36, reason != R_client_gone);
    n_response++
  :: else
  fi;
  TOOK(S_response)
} }

inline step_disconnect() { atomic {
  TAKES(S_disconnect);
  before = state; rejected = accepted;
  pull_disconnect();
  if
  :: rejected == accepted ->
    skip
  :: else
  fi;
  TOOK(S_disconnect)
} }

