/* A channel in one process, after h3ref/channel: events with numbers, a log that keeps the last ones, and subscribers
   that join, read live, fall behind, are dropped or cut as the policy says, leave, and come back with the last number
   that they have.

   A run defines POLICY (of_dropping, of_cutting or of_waiting), and maybe CLOSES. What cuts the search is here: */

#ifndef EVENTS
#define EVENTS 4       /* that are published */
#endif
#ifndef HISTORY
#define HISTORY 2      /* of them, that are kept for those who come back */
#endif
#ifndef CALLS
#define CALLS 2        /* times that a client joins */
#endif
#define SUBSCRIBERS 2
#define MARK 1         /* events that a connection may hold before its subscriber counts as slow */
#define LIMIT 2        /* events that may wait for one subscriber before the policy asks what to do */

#define HOLDS(rule, that) assert(rule || (that))
#define GUARD(that) (that)

#define of_dropping 0
#define of_cutting 1
#define of_waiting 2

hidden byte C_in_order;
hidden byte C_nothing_lost;
hidden byte C_gap_is_true;
hidden byte C_all_arrive;
hidden byte C_kept_while_needed;
hidden byte C_forgets_the_rest;

/* what a connection carries */
#define EVENT 1
#define GAP 2          /* the history does not reach back to what the client has */
#define PROPER_END 3
#define CUT 4

/* where a subscriber is */
#define away 0
#define behind 1       /* it reads the log at its own pace */
#define live 2         /* events are passed on to it as they come */
#define ended 3        /* its stream was ended: what its connection holds still arrives */

byte end;              /* the number of the latest event */
byte start = 1;        /* of the oldest that the log keeps */
bit open = 1;
byte at[SUBSCRIBERS];
byte cursor[SUBSCRIBERS];  /* the number of the next event that it gets, while it is behind */
byte joined[SUBSCRIBERS];  /* what `end` was when it joined: what it replays does not count as lag */
byte has[SUBSCRIBERS];     /* the client's last event ID; 0 if it has none */
bit told[SUBSCRIBERS];     /* it was told of a gap, so the next event may be any later one */
byte passed[SUBSCRIBERS];  /* a bit for each event before which others were dropped for it, as the policy says */

chan line0 = [EVENTS + 3] of { byte, byte };
chan line1 = [EVENTS + 3] of { byte, byte };
#define line(s) ((s) == 0 -> line0 : line1)
#define held(s) ((s) == 0 -> len(line0) : len(line1))
#define MAX(a, b) ((a) > (b) -> (a) : (b))
#define lag(s) (at[s] == live -> held(s) : (end - MAX(cursor[s] - 1, joined[s]) + held(s)))
#define is_full(s) (at[s] == behind && lag(s) >= LIMIT)
#define is_behind(s) (at[s] == behind)

inline give(s, what, number) {
  if
  :: s == 0 -> line0!what,number
  :: s == 1 -> line1!what,number
  fi
}

inline pass_on(s) {
  if
  :: at[s] == live ->
    give(s, EVENT, end);
    if
    :: GUARD(held(s) > MARK) -> at[s] = behind; cursor[s] = end + 1
    :: else
    fi
  :: else
  fi
}

inline relieve(s) {
  if
  :: is_full(s) && POLICY == of_dropping ->
    if                                 /* the oldest are passed over, and one is left */
    :: GUARD(cursor[s] < end) -> cursor[s] = end; passed[s] = passed[s] | (1 << end)
    :: else
    fi
  :: is_full(s) && POLICY == of_cutting -> at[s] = ended; give(s, CUT, 0)
  :: else
  fi
}

/* what the log still needs: a part of it may stay for longer */
inline forget() {
  number = end + 1;
  if :: GUARD(is_behind(0)) && cursor[0] < number -> number = cursor[0] :: else fi;
  if :: GUARD(is_behind(1)) && cursor[1] < number -> number = cursor[1] :: else fi;
  if :: end >= HISTORY && number > end - HISTORY + 1 -> number = end - HISTORY + 1 :: end < HISTORY -> number = 1 :: else fi;
  HOLDS(C_forgets_the_rest, number == (end >= HISTORY -> end - HISTORY + 1 : 1) ||
    (is_behind(0) && cursor[0] == number) || (is_behind(1) && cursor[1] == number));
  if
  :: number > start -> start = number
  :: skip
  fi;
  number = 0
}

inline ends(s) {
  if
  :: at[s] == behind || at[s] == live ->
    do
    :: at[s] == behind && GUARD(cursor[s] <= end) ->
      HOLDS(C_kept_while_needed, cursor[s] >= start);
      give(s, EVENT, cursor[s]);
      cursor[s]++
    :: else -> break
    od;
    at[s] = ended;
    give(s, PROPER_END, 0)
  :: else
  fi
}

active proctype Publisher() {
  byte number;
  do
  :: end < EVENTS && open ->
    atomic {
      POLICY != of_waiting || !open || (!is_full(0) && !is_full(1));
      if
      :: open ->
        relieve(0); relieve(1);
        end++;
        pass_on(0); pass_on(1);
        forget()
      :: else
      fi
    }
  :: else -> break
  od;
#ifdef CLOSES
  atomic {
    open = 0;
    ends(0); ends(1)
  }
#endif
}

/* the task of a subscriber that reads the log */
proctype Reader(byte s) {
  do
  :: atomic { at[s] == behind && cursor[s] <= end && held(s) < MARK ->
    HOLDS(C_kept_while_needed, cursor[s] >= start);
    give(s, EVENT, cursor[s]);
    cursor[s]++
  }
  :: atomic { GUARD(at[s] == behind && cursor[s] == end + 1) -> at[s] = live }
  od
}

inline join(s) {
  byte oldest;
  oldest = MAX(start, (end >= HISTORY -> end - HISTORY + 1 : 1));
  joined[s] = end;
  at[s] = behind;
  if
  :: has[s] == 0 -> cursor[s] = end + 1; has[s] = end; told[s] = 0
  :: has[s] > 0 && GUARD(has[s] + 1 >= oldest) -> cursor[s] = has[s] + 1
  :: has[s] > 0 && has[s] + 1 < oldest ->
    HOLDS(C_gap_is_true, has[s] < end);
    give(s, GAP, 0);
    cursor[s] = oldest
  fi;
  oldest = 0
}

proctype Client(byte s) {
  byte what, number, calls;
  do
  :: atomic { at[s] == away && calls < CALLS && open -> calls++; join(s) }
  :: atomic { at[s] != away && held(s) > 0 ->
    if
    :: s == 0 -> line0?what,number
    :: s == 1 -> line1?what,number
    fi;
    if
    :: what == EVENT ->
      HOLDS(C_in_order, number > has[s]);
      HOLDS(C_nothing_lost, number == has[s] + 1 || told[s] || (passed[s] & (1 << number)));
      has[s] = number; told[s] = 0
    :: what == GAP -> told[s] = 1
    :: what == PROPER_END -> HOLDS(C_all_arrive, has[s] == end); at[s] = away
    :: what == CUT -> at[s] = away
    fi;
    what = 0; number = 0
  }
  :: atomic { at[s] != away && calls < CALLS ->  /* it leaves: what its connection holds is lost */
    do
    :: held(s) > 0 && s == 0 -> line0?_,_
    :: held(s) > 0 && s == 1 -> line1?_,_
    :: held(s) == 0 -> break
    od;
    at[s] = away; told[s] = 0; passed[s] = 0
  }
  od
}

init { atomic { run Reader(0); run Reader(1); run Client(0); run Client(1) } }

active proctype Silence() {
  timeout;
  HOLDS(C_all_arrive, at[0] == away || has[0] == end);
  HOLDS(C_all_arrive, at[1] == away || has[1] == end);
}
