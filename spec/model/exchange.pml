/* One exchange with all that may happen to it: its flow, a handler and a callback that do what they like, a client, a
   server that ends, and whoever else asks. spec/README.md says what a step is, docs/proof.md what is proved of this.

   machine.pml and flows.pml are generated, from spec/lifecycle.json and from h3ref/flows.py. What stands here is what a
   step does besides its trigger, after h3ref/_core: bytes, failures, cancellation.

   A run defines FLOW (flow_by_handler or flow_broken), what the handler may call (CALLBACK, AWAITED, BLOCKING), and
   what there is around it (HEAD, THREAD, SECOND, KEEP_ALIVE, AGE, STRANGER, SLOTS). What cuts the search is here: */

#ifndef EVENTS
#define EVENTS 3       /* events that user code sends */
#endif
#ifndef BUFFER
#define BUFFER 2       /* of what may wait for the reader before who sends has to wait; the head counts */
#endif
#ifndef CALLS
#define CALLS 3        /* calls of the handler on its event before it streams, returns, raises or blocks */
#endif
#ifndef ASKS
#define ASKS 10        /* times that H3Z's example asks for its writer */
#endif
#ifndef COMMENTS
#define COMMENTS 1     /* keep-alives */
#endif

#ifdef SCRIPT          /* a recording is followed, record by record: see tests/model/scripts.py */
#define ROW script_rows[now.script][now.place]
/* a script stops processes in the middle of what is atomic: who notices a client that leaves has to look once more */
#define TAKES(step) c_expr { ROW[0] == step && ROW[5] == now.is_head_request && (step != S_disconnect || !now.busy) }
#define TOOK(step) c_expr { ROW[1] == before && ROW[2] == now.state && ROW[3] == rejected && ROW[4] == now.reason };\
                   place++; c_code { script_reached(now.script, now.place); }
#define HOLDS(rule, that) skip
#else
#define TAKES(step) skip
#ifdef GRAPH           /* each step is counted, with the states that it leads between: see h3ref/lab/model/graph.py */
#define TOOK(step) c_code { graph_took(step, before, now.state, rejected); }
#else
#define TOOK(step) printf("@ %d %d %d %d %d %d\n", step, before, state, rejected, reason, is_head_request)
#endif
#define HOLDS(rule, that) assert(rule || (that))
#endif

#define GUARD(that) (that)

#define RAISE(what) raised = what; blamed = 1
#define GOES_ON(step) if :: raised == nothing -> step :: else fi

/* what is raised */
#define nothing 0
#define mistake 1      /* by user code */
#define rejection 2    /* by the machine */
#define unanswered 3   /* nobody will ever answer */
#define refused 4      /* there is no room for another stream */
#define cancelled 5    /* by the server: what unwinds is the user's code */
#define cut_short 6    /* a time limit of the user's own ended the opening half-way */
#define not_written 7  /* the adapter can't send */

/* what a client can see */
#define HEAD_OF_STREAM 1
#define EVENT 2
#define COMMENT 3
#define PROPER_END 4
#define CUT 5
#define RESPONSE 6

#include "machine.pml"

/* -- what was, for the properties */

bit started;           /* start_sse was accepted */
bit headed;            /* send_headers was */
bit handed;            /* get_writer was */
bit ended;             /* a trigger that closes was pulled, or a plain answer given */
byte first_reason;     /* of the first of these */
byte events;           /* send_event accepted, comments apart */
byte called;           /* times that the callback was called */
byte told;             /* times that what streams was told of its end, by a cancellation */
bit over;              /* the exchange is */
bit blamed;            /* something was raised that is no cancellation by the server */
bit was_over;          /* a callback was set whose stream had ended before */

hidden byte P_one_answer;
hidden byte P_one_head;
hidden byte P_nothing_before_the_head;
hidden byte P_no_event_before_the_writer;
hidden byte P_ends_from_everywhere;
hidden byte P_first_reason_stays;
hidden byte P_state_means;
hidden byte P_delivered_or_told;
hidden byte P_in_order;
hidden byte P_callback_called_once;
hidden byte P_told_once;
hidden byte P_reason_is_true;
hidden byte P_own_end_cancels_nobody;
hidden byte P_unanswered_is_true;
hidden byte P_nobody_waits;
hidden byte P_early_failure_is_a_status;
hidden byte P_no_more_streams_than_slots;

#define is_accepted (rejected == accepted)
#define MEANS (ended -> closed : (handed -> streaming : (headed -> headers_sent : (started -> sse_started : requested))))

inline after_each() {
  if
  :: ended && first_reason == R_none ->
    HOLDS(P_first_reason_stays, reason != R_none);
    first_reason = reason
  :: ended && first_reason != R_none ->
    HOLDS(P_first_reason_stays, reason == first_reason)
  :: else ->
    HOLDS(P_first_reason_stays, reason == R_none)
  fi;
  HOLDS(P_state_means, state == MEANS)
}
inline after_start_sse() {
  HOLDS(P_one_answer, is_accepted == (!started && !ended));
  started = started || is_accepted;
  after_each()
}
inline after_send_response() {
  HOLDS(P_one_answer, is_accepted == (!started && !ended));
  ended = ended || is_accepted;
  after_each()
}
inline after_send_headers() {
  HOLDS(P_one_head, is_accepted == (started && !headed && !ended));
  headed = headed || is_accepted;
  after_each()
}
inline after_get_writer() {
  HOLDS(P_no_event_before_the_writer, is_accepted == (headed && !ended));
  handed = handed || is_accepted;
  after_each()
}
inline after_send_event() {
  HOLDS(P_no_event_before_the_writer, is_accepted == (handed && !ended));
  after_each()
}
inline after_close()      { ends() }
inline after_disconnect() { HOLDS(P_reason_is_true, client_left || ended); ends() }
inline after_fail()       { HOLDS(P_reason_is_true, blamed || ended); ends() }
inline ends() {
  HOLDS(P_ends_from_everywhere, is_accepted && state == closed);
  HOLDS(P_reason_is_true, reason != R_shutdown || stopping);
  HOLDS(P_reason_is_true, reason != R_slow_consumer || client_stalls);
  HOLDS(P_reason_is_true, reason != R_complete || handed || is_head_request || was_over);
  ended = 1;
  after_each()
}

/* -- what there is of an exchange, besides its machine */

bit has_stream;
bit is_opening;        /* the handler's own call opens the stream just now */
byte behind;           /* what is sent meanwhile: see below */
#define through 0
#define waiting 1
#define discarded 2
byte ending;           /* how far the end of the connection has come */
#define not_yet 0
#define begun 1
#define done 2
bit head_left;

chan behind_head = [BUFFER] of { byte };
chan wire = [BUFFER + 4] of { byte, byte };

/* -- what happens around it */

bit busy = 1;          /* the exchange's task has the loop: whoever runs there, too, waits until that waits */
bit is_thread;         /* user code runs on a worker thread: nothing cancels it, it learns at its next send */
bit is_running;        /* user code runs */
bit is_blocked;        /* and waits for what never comes */
bit is_cancelled;      /* what streams is to end */
bit stopping;          /* the server takes no new stream */
bit abandoned;         /* the grace is over */
bit watched;           /* a client that leaves is noticed */
bit client_left;
bit client_stalls;     /* it reads no more, and stays */
byte got;              /* the latest event that it read */
byte heads;            /* heads that it read, a plain answer's included */
byte got_status;
byte got_end;
byte fate;             /* of the client: whether it will leave, or stall, when it likes */
#define stays 0
#define leaves 1
#define stalls 2
bit may_stop;          /* whether the server will end, when it likes */
byte comments;
#define SLOT 1
byte taken;            /* of the server's slots for streams */
bit has_slot, has_neighbours_slot;

#ifdef SCRIPT
byte script, place;
c_decl { \#include "script.h" }
#endif
#ifdef GRAPH
c_decl { \#include "graph.h" }
#endif

/* -- helpers */

inline stop(why) { atomic {
  if
  :: GUARD(state != closed) -> step_closes(why); is_cancelled = 1
  :: else
  fi
} }

inline close_failed(what) {
  if
  :: what == unanswered || what == refused -> step_gives_up()
  :: else -> step_fails()
  fi
}

inline keep_failure(what) { atomic {
  if
  :: state == closed
  :: state != closed && (what == cancelled || what == cut_short) ->
    failure = cut_short;               /* the handler may go on, and answer otherwise */
    if
    :: GUARD(state != sse_started) -> close_failed(failure)  /* but not where the head was let out already */
    :: else
    fi
  :: state != closed && what != cancelled && what != cut_short -> failure = what; close_failed(what)
  fi
} }

/* who runs is told of a cancellation once: what it awaits while it cleans up goes through */
#define IS_TOLD (is_cancelled && !is_thread && GUARD(told == 0))
inline tell() {
  HOLDS(P_told_once, told == 0);
  HOLDS(P_own_end_cancels_nobody, abandoned || (reason != R_complete && reason != R_error && reason != R_responded));
  told++;
  raised = cancelled
}

inline put(what, number) {
  if
  :: client_left
  :: else -> wire!what,number
  fi
}

inline end_stream() {
  if
  :: atomic { GUARD(ending == not_yet) -> ending = begun };
    (!busy && GUARD(behind != waiting));
    atomic {
      if
      :: reason == R_client_gone
      :: reason == R_error || reason == R_slow_consumer ->
        step_cuts_connection();
        end_connection(CUT);
        step_connection_closed()
      :: reason != R_client_gone && reason != R_error && reason != R_slow_consumer ->
        step_closes_connection();
        end_connection((head_left -> PROPER_END : CUT));
        step_connection_closed()
      fi;
      ending = done
    }
  :: ending == begun -> (ending == done)
  :: ending == done
  fi
}

/* a reader that takes nothing is given up when the time is over: what waits for it is lost, and so is the proper end */
inline end_connection(what) { atomic {
  if
  :: client_stalls && len(wire) > 0 ->
    do
    :: len(wire) > 0 -> wire?_,_
    :: else -> break
    od;
    put(CUT, 0)
  :: else -> put(what, 0)
  fi
} }

/* -- the steps of a flow */

inline x_check_sse_started() {
  atomic {
  if
  :: failure != nothing -> raised = failure
  :: else ->
    step_checks_sse_started();
    if
    :: GUARD(is_over) ->
      is_over = 0;
      step_closes(R_complete);
      atomic { pull_send_headers() };
      RAISE(rejection)
    :: else
    fi
  fi
  }
}

inline x_take_callback() {
  if
  :: GUARD(callback_is_set)
  :: else -> RAISE(unanswered)
  fi
}

inline x_create_connection() {
  atomic {
    if
    :: has_connection -> RAISE(mistake)
    :: !has_connection && GUARD(stopping) -> stop(R_shutdown); RAISE(rejection)
    :: !has_connection && !stopping && GUARD(taken >= SLOT) ->
      HOLDS(P_no_more_streams_than_slots, taken >= SLOT);
      RAISE(refused)
    :: else -> step_creates_connection(); has_connection = 1; has_slot = 1; taken++
    fi;
    HOLDS(P_no_more_streams_than_slots, taken <= SLOT);
    if
    :: raised != nothing -> keep_failure(raised)
    :: else
    fi
  }
}

inline x_send_headers() {
  busy = 0;
  if                                   /* hooks */
  :: skip
  :: RAISE(mistake)
  :: IS_TOLD -> tell()
  :: is_opening && !is_thread -> RAISE(cut_short)
  fi;
  busy = 1;
  if
  :: raised == nothing -> atomic {
    step_sends_headers();
    if
    :: is_accepted -> has_stream = 1; behind = waiting
    :: else -> RAISE(rejection)
    fi
  }
  :: else
  fi;
  if
  :: raised == nothing ->
    busy = 0;
    if                                 /* the head is on its way: it is sent whole, or not at all */
    :: put(HEAD_OF_STREAM, 0); head_left = 1
    :: RAISE(not_written)
    :: IS_TOLD -> tell()
    :: is_opening && !is_thread -> RAISE(cut_short)
    fi;
    atomic {
      busy = 1;
      if
      :: raised != nothing -> discard_body()
      :: else ->
        step_headers();
        if
        :: GUARD(is_head_request) -> discard_body(); step_closes(R_complete)
        :: else -> follow_head()
        fi
      fi;
      if
      :: raised != nothing -> keep_failure(raised)
      :: else
      fi
    }
  :: else -> keep_failure(raised)
  fi
}

inline discard_body() {
  behind = discarded;
  do
  :: behind_head?_
  :: empty(behind_head) -> break
  od
}

inline follow_head() {
  if
  :: GUARD(reason == R_client_gone) -> discard_body()
  :: else ->
    behind = through;
    do
    :: behind_head?number -> step_data(); step_event(); put(EVENT, number); number = 0
    :: empty(behind_head) -> break
    od
  fi
}

inline x_connection_ready() {
  atomic {
  step_connection_ready();
  if
  :: has_stream
  :: else -> step_get_sse_writer(); if :: is_accepted :: else -> RAISE(rejection) fi
  fi
  }
}

inline x_hand_over() {
  atomic {
    step_hands_over_writer();
    if
    :: is_accepted
    :: else -> RAISE(rejection)
    fi
  }
}

inline x_run_callback() {
  atomic {
    step_schedules_callback();
    step_calls_callback();
    if
    :: is_accepted -> called++; HOLDS(P_callback_called_once, called == 1)
    :: else -> RAISE(rejection)
    fi
  }
  if
  :: raised == nothing -> is_running = 1; busy = 0; user_streams(); busy = 1; is_running = 0
  :: else
  fi
}

inline x_wait_until_closed() {
  if
  :: state == closed
  :: state != closed -> busy = 0; (IS_TOLD); busy = 1; tell()
  fi
}

inline x_close() {
  atomic {
  if
  :: state != closed && failure != nothing -> raised = failure
  :: else
  fi;
  if
  :: raised != nothing
  :: raised == nothing && GUARD(state == requested) -> raised = unanswered; blamed = blamed || state == requested
  :: raised == nothing && state == closed -> respond()
  :: raised == nothing && state != requested && state != closed ->
    if
    :: has_stream && GUARD(is_cut_short) -> step_fails()
    :: else -> step_closes(R_complete)
    fi
  fi
  }
}

inline respond() {
  if
  :: GUARD(plain) && GUARD(reason != R_client_gone) ->
    plain = 0;
    put(RESPONSE, status);
    step_response()
  :: else
  fi
}

inline x_run_handler(opens) {
  step_request();
  is_running = 1;
  busy = 0;
  user_handles(opens);
  busy = 1;
  is_running = 0;
  if
  :: raised == nothing -> step_returns()
  :: else
  fi
}

/* -- the end of an exchange, whichever way it goes */

inline tell_failure(what) {
  atomic {
  HOLDS(P_unanswered_is_true, what != unanswered || (failure == nothing && !has_connection));
  err = what;
  if
  :: state == closed && err == rejection && reason != R_responded && reason != R_error
  :: else ->
    if
    :: failure != nothing && reason == R_error -> err = failure; what = failure; failure = nothing;
      if :: state != closed -> close_failed(err) :: else fi
    :: else -> failure = nothing; close_failed(err)
    fi;
    if
    :: !has_stream && reason == R_error -> plain = 1; status = 5
    :: else
    fi
  fi
  }
}

inline end_exchange() {
  if
  :: GUARD(state != closed) -> step_closes(R_shutdown)
  :: else
  fi;
  if
  :: has_stream -> busy = 0; end_stream()
  :: else ->
    if
    :: reason == R_complete -> plain = 1; status = 2
    :: reason != R_complete && reason != R_responded && reason != R_error && reason != R_client_gone -> plain = 1; status = 5
    :: else
    fi;
    respond()
  fi
}

/* -- user code, which does what it likes */

inline may_catch() {
  if
  :: raised != nothing && raised != cancelled -> raised = nothing
  :: skip
  fi
}

inline e_start_sse() { atomic {
  step_start_sse();
  if
  :: is_accepted ->
    failure = nothing;
    watched = 1;
    if
    :: stopping && !is_thread -> is_cancelled = 1
    :: else
    fi
  :: else -> RAISE(rejection)
  fi
} }

inline e_set_stream_callback() { atomic {
  if
  :: (state == closed && reason != R_responded) -> pull_get_writer(); RAISE(rejection)
  :: (state == requested || state == sse_started) ->
    step_set_stream_callback();
    callback_is_set = 1;
    if
    :: is_over = 0
    :: is_over = 1; was_over = 1
    fi
  :: else -> RAISE(mistake)
  fi
} }

inline e_get_sse_writer() { atomic {
  step_get_sse_writer();
  if
  :: is_accepted -> has_writer = 1
  :: else -> RAISE(rejection)
  fi
} }

inline e_await_sse_writer(opens) {
  busy = 1;
  if
  :: state != requested && failure != nothing -> raised = failure
  :: else ->
    if
    :: state != sse_started || !opens -> e_get_sse_writer()
    :: state == sse_started && opens && callback_is_set -> RAISE(mistake)
    :: state == sse_started && opens && !callback_is_set ->
      step_await_sse_writer();
      is_opening = 1;
      flow_awaited();
      is_opening = 0;
      has_writer = (raised == nothing)
    fi
  fi;
  busy = 0
}

inline e_start_sse_blocking(opens) {
  busy = 1;
  if
  :: state != requested || !opens ->
    e_start_sse();
    if :: raised == nothing -> e_get_sse_writer() :: else fi
  :: state == requested && opens && callback_is_set -> RAISE(mistake)
  :: state == requested && opens && !callback_is_set ->
    step_start_sse_blocking();
    is_opening = 1;
    flow_blocking();
    is_opening = 0;
    has_writer = (raised == nothing);
    if :: raised == cancelled -> raised = rejection :: else fi
  fi;
  busy = 0
}

inline e_send_response() { atomic {
  step_send_response();
  if
  :: is_accepted -> plain = 1; status = 2
  :: else -> RAISE(rejection)
  fi
} }

inline e_send_event() {
  if
  :: (len(wire) + len(behind_head) < BUFFER)
  :: (state == closed || behind == discarded)
  :: IS_TOLD -> tell()
  fi;
  if
  :: raised == nothing -> atomic {
    busy = 1;
    step_send_event();
    if
    :: is_accepted -> accept_event()
    :: else -> RAISE(rejection)
    fi;
    busy = 0
  }
  :: else
  fi
}

inline accept_event() {
  events++;
  if
  :: behind == waiting -> behind_head!events
  :: behind == through -> step_data(); step_event(); put(EVENT, events)
  :: behind == discarded
  fi
}

inline e_send_keep_alive() { atomic {
  busy = 1;
  step_send_keep_alive();
  if
  :: is_accepted ->
    comments++;
    if
    :: behind == through && len(wire) < BUFFER -> step_data(); step_comment(); put(COMMENT, 0)
    :: else
    fi
  :: else -> RAISE(rejection)
  fi;
  busy = 0
} }

inline e_close() {
  step_close(R_complete);
  end_stream()
}

inline waits_for_ever() {
  is_blocked = 1;
  if
  :: IS_TOLD -> is_blocked = 0; tell()
  :: abandoned -> is_blocked = 0; raised = cancelled
  fi
}

inline user_streams() {
  if
  :: in_block = 0
  :: in_block = 1                      /* async with writer */
  fi;
  is_finished = 0;
  do
  :: raised == nothing && !is_finished ->
    if
    :: sent < EVENTS -> sent++; e_send_event(); may_catch()
#ifdef KEEP_ALIVE
    :: comments < COMMENTS -> e_send_keep_alive(); may_catch()
#endif
    :: state != closed -> e_close()
    :: RAISE(mistake)
    :: is_finished = 1
    :: IS_TOLD -> tell()
    :: !is_thread -> is_cut_short = is_cut_short || in_block; blamed = 1; in_block = 0; is_finished = 1  /* its own time limit */
    :: waits_for_ever()
    fi
  :: else -> break
  od;
  if
  :: raised == cancelled && sent < EVENTS && state == closed -> sent++; raised = nothing; e_send_event(); raised = cancelled  /* in its finally */
  :: skip
  fi;
  if
  :: !in_block
  :: in_block && raised == nothing -> e_close()
  :: in_block && raised == cancelled -> is_cut_short = 1
  :: in_block && raised != nothing && raised != cancelled -> step_fails(); end_stream()
  fi;
  in_block = 0
}

#ifdef EXAMPLE
/* H3Z's example handler: it asks so often for its writer, and gives up */
inline user_handles(opens) {
  e_start_sse();
  do
  :: calls < ASKS -> calls++; e_get_sse_writer(); raised = nothing
  :: else -> break
  od;
  calls = 0
}
#else
inline user_handles(opens) {
  is_finished = 0;
  do
  :: raised == nothing && !is_finished ->
    if
    :: calls < CALLS ->
      calls++;
      has_writer = 0;
      if
      :: e_start_sse()
      :: e_send_response()
      :: e_get_sse_writer()
#ifdef CALLBACK
      :: e_set_stream_callback()
#endif
#ifdef AWAITED
      :: !is_thread -> e_await_sse_writer(opens)
#endif
#ifdef BLOCKING
      :: is_thread -> e_start_sse_blocking(opens)
#endif
      fi;
      may_catch();
      if
      :: has_writer -> user_streams()
      :: else
      fi
    :: RAISE(mistake)
    :: is_finished = 1
    :: IS_TOLD -> tell()
    :: waits_for_ever()
    fi
  :: else -> break
  od;
  calls = 0; is_finished = 0; has_writer = 0
}
#endif

/* -- the processes */

#include "flows.pml"

active proctype Exchange() {
  byte raised;         /* what unwinds the code that runs */
  byte failure;        /* why the stream can't be opened, until that is told */
  byte err;            /* the failure that is being told */
  byte status;         /* the first digit of the plain answer's */
  byte calls, sent, number;
  bit plain;           /* there is a plain answer that has not been sent */
  bit callback_is_set;
  bit is_over;         /* what the callback would stream has ended before */
  bit has_connection;
  bit is_cut_short;    /* a cancellation left the writer's block */
  bit in_block, is_finished, has_writer;
  atomic {             /* what the world is like */
    if :: fate = stays :: fate = leaves :: fate = stalls fi;
#ifdef STOPS
    if :: may_stop = 0 :: may_stop = 1 fi;
#endif
#ifdef GENERATED
    if :: watched = 0 :: watched = 1 fi;  /* a route of a generator's watches from its beginning */
#endif
#ifdef HEAD
    if :: is_head_request = 0 :: is_head_request = 1 fi;
#endif
#ifdef THREAD
    if :: is_thread = 0 :: is_thread = 1 fi;
#endif
#ifdef SCRIPT
    c_code { now.script = 0; };
    do
    :: c_expr { now.script + 1 < SCRIPTS } -> script++
    :: break
    od;
#endif
  }
  FLOW();
  busy = 0;            /* hooks */
  busy = 1;
  if
  :: raised == cancelled -> raised = nothing
  :: raised == nothing
  :: else -> tell_failure(raised); raised = nothing
  fi;
  if
  :: failure != nothing && reason == R_error -> tell_failure(failure)
  :: else
  fi;
  end_exchange();
  atomic {
    if
    :: has_slot -> has_slot = 0; taken--
    :: else
    fi;
    over = 1
  }
}

inline sees() {
  if
  :: what == HEAD_OF_STREAM ->
    HOLDS(P_one_head, heads == 0 && got_end == 0);
    heads++;
    got_status = 2
  :: what == EVENT ->
    HOLDS(P_nothing_before_the_head, heads == 1 && got_end == 0);
    HOLDS(P_in_order, seen == got + 1);
    got = seen
  :: what == COMMENT ->
    HOLDS(P_nothing_before_the_head, heads == 1 && got_end == 0)
  :: what == PROPER_END ->
    HOLDS(P_nothing_before_the_head, heads == 1 && got_end == 0);
    HOLDS(P_delivered_or_told, got == events || is_head_request);
    got_end = PROPER_END
  :: what == CUT ->
    HOLDS(P_nothing_before_the_head, got_end == 0);
    got_end = CUT
  :: what == RESPONSE ->
    HOLDS(P_one_head, heads == 0 && got_end == 0);
    heads++;
    got_status = seen;
    got_end = PROPER_END
  fi
}

active proctype Client() {
  byte what, seen;
  do
  :: atomic { !client_left && !client_stalls && nempty(wire) -> wire?what,seen; sees(); what = 0; seen = 0 }
  :: atomic { fate == leaves && !client_left ->
    client_left = 1;
    do
    :: wire?_,_
    :: empty(wire) -> break
    od
  }
  :: fate == stalls && !client_stalls && heads > 0 -> client_stalls = 1
  od
}

/* notices that the client has left */
active proctype Watcher() {
  atomic {
    !busy && watched && client_left;
    if
    :: GUARD(state != closed) -> step_disconnect(); is_cancelled = 1
    :: else
    fi
  }
}

/* the server: it ends streams first, and at the end of its grace all that is left */
active proctype Server() {
  atomic { !busy && may_stop -> stopping = 1 }
  atomic {
    if
    :: !busy && state != requested -> stop(R_shutdown)
    :: !busy && state == requested
    fi
  }
  atomic { !busy -> stop(R_shutdown); is_cancelled = 1; abandoned = 1 }
}

/* cuts a reader that takes nothing, and ends a stream whose user code takes its time to learn of that */
active proctype Upkeep() {
  do
  :: atomic { !busy && client_stalls && has_stream && behind == through && len(wire) > 0 && state != closed -> stop(R_slow_consumer) }
#ifdef AGE
  :: atomic { !busy && has_stream && state != closed && ending == not_yet -> stop(R_timeout) }
#endif
  :: !busy && is_cancelled && has_stream && is_running && ending == not_yet && state == closed &&
     (is_thread || (told > 0 && reason != R_client_gone)) -> end_stream()
  :: over -> break
  od
}

#ifdef KEEP_ALIVE
inline e_offer_keep_alive() {
  busy = 1;
  comments++;
  step_send_keep_alive();
  if
  :: behind == through && len(wire) < BUFFER -> step_data(); step_comment(); put(COMMENT, 0)
  :: else
  fi;
  busy = 0
}

active proctype KeepAlive() {
  do
  :: atomic { !busy && comments < COMMENTS && has_stream && GUARD(state == streaming) -> e_offer_keep_alive() }
  :: over -> break
  od
}
#endif

#ifdef SECOND
/* another task of the handler's: it takes the writer while the head is on its way, and sends one event behind it */
active proctype Second() {
  atomic {
    !busy && is_running && is_opening;
    busy = 1;
    if
    :: state != requested -> step_get_sse_writer()
    fi;
    if
    :: is_accepted && len(behind_head) + len(wire) < BUFFER -> step_send_event(); if :: is_accepted -> accept_event() :: else fi
    :: else
    fi;
    busy = 0
  }
}
#endif

#ifdef SLOTS
/* another exchange, as far as it shares anything with this one: the slot, and the server's end */
active proctype Neighbour() {
  atomic {
    !busy && !stopping;
    if
    :: taken < SLOT -> taken++; has_neighbours_slot = 1; HOLDS(P_no_more_streams_than_slots, taken <= SLOT)
    :: skip
    fi
  }
  if
  :: atomic { !busy && has_neighbours_slot -> taken--; has_neighbours_slot = 0 }
  :: !has_neighbours_slot
  fi
}
#endif

#ifdef STRANGER
/* asks at the wrong moment, on any thread, and is rejected each time: what would be accepted others do */
active proctype Stranger() {
  n_request > 0;
  do
  :: atomic { state != requested -> step_start_sse() }
  :: atomic { state != requested -> step_send_response() }
  :: atomic { state != sse_started -> before = state; pull_send_headers() }
  :: atomic { state != headers_sent && state != streaming -> step_get_sse_writer() }
  :: atomic { state != streaming -> step_send_event() }
  :: atomic { state == closed -> before = state; pull_close(R_timeout) }
  :: atomic { state == closed -> before = state; pull_disconnect() }
  :: atomic { state == closed -> before = state; pull_fail() }
  :: over -> break
  od
}
#endif

#ifdef LIVE
#define streams (handed || over)
#define is_let_go (over || (is_blocked && (!is_cancelled || is_thread)))
ltl L_started_streams_or_ends { [] (started -> <> (streams || is_blocked)) }
ltl L_what_streams_ends { [] (handed -> <> is_let_go) }
ltl L_who_left_is_let_go { [] ((client_left && watched) -> <> (state == closed)) }
#endif

#if !defined(SCRIPT) && !defined(LIVE) && !defined(GRAPH)
/* when nothing moves any more */
active proctype Silence() {
  timeout;
  HOLDS(P_nobody_waits, over || (is_blocked && (!is_cancelled || is_thread)));
  HOLDS(P_delivered_or_told, 
    client_left || client_stalls || is_head_request || got == events || got_end == CUT || (is_blocked && state == closed));
  HOLDS(P_delivered_or_told, client_left || client_stalls || !over || got_end != 0);
  HOLDS(P_no_more_streams_than_slots, !over || taken == has_neighbours_slot);
  HOLDS(P_early_failure_is_a_status, client_left || client_stalls || !over || owed == 0 || got_status == owed);
}
#endif
