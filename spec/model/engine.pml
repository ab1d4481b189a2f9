/* One channel in two processes, by way of an engine that remembers and tells, after h3ref/channel/reader.py, chain.py and
   h3ref/engine: each entry names the place of the one before it.

   An entry's id is its place together with its nonce. A run may define what goes wrong: CUTS (a process misses what it
   would have heard), ROLLBACKS (the engine loses its latest entry, as in a failover), FLUSHES (it loses all), RESTARTS (a
   process begins anew), RETRIES (an answer is lost, and the publisher tries again). What cuts the search is here: */

#ifndef EVENTS
#define EVENTS 3       /* that are published, by either process: their nonces are 1 to EVENTS */
#endif
#ifndef KEEP
#define KEEP 4         /* entries that the engine keeps */
#endif
#ifndef FAULTS
#define FAULTS 1       /* times that something goes wrong */
#endif
#ifndef LOOKS
#define LOOKS 6        /* times that a process reads what the engine has; it never needs as many */
#endif
#define FENCE 4        /* a fence for a lost entry has the nonce of that, and this much more */
#define NONCES 8
#define MOST 6
#define NONE 255
#define PROCESSES 2

#define HOLDS(rule, that) assert(rule || (that))
#define GUARD(that) (that)

hidden byte E_no_double;
hidden byte E_lost_is_told;
hidden byte E_gap_is_true;
hidden byte E_one_order;
hidden byte E_all_caught_up;

/* -- the engine: its entries, the oldest first */

byte size;
byte nonce[MOST], place[MOST], previous[MOST];
byte acknowledged;     /* a bit for each event */
byte published;        /* how many events were given to it */
bit faulty;            /* something may have been lost */
byte faults;

chan heard0 = [MOST] of { byte, byte, byte };
chan heard1 = [MOST] of { byte, byte, byte };

/* -- a process: what it has had */

byte last_place[PROCESSES], last_nonce[PROCESSES];
bit looked[PROCESSES];         /* whether it knows where it is at all */
byte where[16];                /* the place of each entry that it has had, by its nonce; 0 if it has not */
byte when[16];                 /* in which order they came */
byte tick[PROCESSES];
byte seen[PROCESSES];          /* events that it has passed on, a bit for each */
byte order[16];                /* in which order */
byte count[PROCESSES];
byte exempt[PROCESSES];        /* events from before it began */
byte owed[16];                 /* the place of each event that the engine surely had, and that has not come yet */
byte engine_place[PROCESSES], engine_nonce[PROCESSES];  /* the last entry that its engine knows of */
byte retries[PROCESSES];       /* an event whose answer did not come */
bit asked[PROCESSES];          /* whether what the engine has is to be read */
bit was_cut[PROCESSES], joined[PROCESSES];
bit told[PROCESSES];           /* whether a gap was told */
byte looks[PROCESSES];

#define OF(p, n) ((p) * NONCES + (n))
#define BIT(n) (1 << (n))
#define waits(p) ((p) == 0 -> len(heard0) : len(heard1))

inline tell(p, n, at, pr) {
  if
  :: p == 0 && nfull(heard0) -> heard0!n,at,pr
  :: p == 1 && nfull(heard1) -> heard1!n,at,pr
  fi;
  engine_place[p] = at; engine_nonce[p] = n
}

inline add(n) {
  pr = (size > 0 -> place[size - 1] : 0);
  if
  :: size == KEEP || size == MOST ->   /* trimmed */
    i = 0;
    do
    :: i + 1 < size -> nonce[i] = nonce[i + 1]; place[i] = place[i + 1]; previous[i] = previous[i + 1]; i++
    :: else -> break
    od;
    size--;
    faulty = 1                         /* for who has not had it yet */
  :: else
  fi;
  nonce[size] = n;
  place[size] = pr + 1;                /* also where the clock was set back: behind the last one that there is */
  previous[size] = pr;
  size++;
  tell(0, n, pr + 1, pr);
  tell(1, n, pr + 1, pr)
}

/* the fence of a lost fence is the same again */
inline add_fence(n) {
  f = n;
  if
  :: f < FENCE -> f = f + FENCE
  :: else
  fi;
  add(f)
}

/* an entry after another one: the first attempt looks whether what its process had last is gone, and says so */
inline append(p, n) {
  has_it = 0; older = 0; fence_stands = 0;
  i = 0;
  do
  :: i < size ->
    if
    :: place[i] == engine_place[p] && nonce[i] == engine_nonce[p] -> has_it = 1
    :: else
    fi;
    if
    :: place[i] < engine_place[p] -> older = 1
    :: place[i] > engine_place[p] && nonce[i] >= FENCE -> fence_stands = 1
    :: else
    fi;
    i++
  :: else -> break
  od;
  if
  :: GUARD(engine_nonce[p] > 0 && !has_it && older && !fence_stands) -> add_fence(engine_nonce[p])
  :: else
  fi;
  add(n)
}

/* a fence behind an entry that all know, unless there is one */
inline append_fence(p, since, n) {
  HOLDS(E_gap_is_true, n > 0);         /* it names what is lost */
  fence_stands = 0;
  i = 0;
  do
  :: i < size ->
    if
    :: place[i] > since && nonce[i] >= FENCE -> fence_stands = 1
    :: else
    fi;
    i++
  :: else -> break
  od;
  if
  :: GUARD(!fence_stands) -> add_fence(n)
  :: else
  fi
}

/* -- what a process passes on */

inline gap(p) {
  HOLDS(E_gap_is_true, faulty);
  told[p] = 1
}

inline go_on_to(p, n, pl) {
  where[OF(p, n)] = pl;
  tick[p]++;
  when[OF(p, n)] = tick[p];
  last_place[p] = pl; last_nonce[p] = n; looked[p] = 1;
  owed[OF(p, n)] = 0
}

inline pass_on(p, n) {
  if
  :: n >= FENCE -> gap(p)
  :: else ->
    HOLDS(E_no_double, !(seen[p] & BIT(n)));
    seen[p] = seen[p] | BIT(n);
    order[OF(p, n)] = count[p] + 1;
    count[p]++
  fi
}

/* takes an entry of what was read; one that does not follow the last means a gap */
inline take(p, at) {
  if
  :: place[at] == last_place[p] && nonce[at] == last_nonce[p]
  :: else ->
    if
    :: GUARD(looked[p] && previous[at] != last_place[p]) -> gap(p)
    :: else
    fi;
    is_new = (where[OF(p, nonce[at])] == 0);
    n2 = nonce[at];
    go_on_to(p, n2, place[at]);
    if
    :: GUARD(is_new) -> pass_on(p, n2)
    :: else
    fi
  fi
}

inline take_from(p, first) {
  k = first;
  do
  :: k < size -> take(p, k); k++
  :: else -> break
  od
}

/* the last entry that both have, and what was lost behind it */
inline find_common(p) {
  common = NONE;
  k = 0;
  do
  :: k < size ->
    if
    :: where[OF(p, nonce[k])] == place[k] -> common = k
    :: else
    fi;
    k++
  :: else -> break
  od;
  if
  :: common == NONE -> gap(p); was_cut[p] = 0; looked[p] = 0; last_place[p] = 0; last_nonce[p] = 0; take_from(p, 0); looked[p] = 1
  :: else ->
    lost = 0; fence_stands = 0;
    k = 1;
    do
    :: k < NONCES ->
      if
      :: when[OF(p, k)] > when[OF(p, nonce[common])] ->
        has_it = 0; i = common + 1;
        do
        :: i < size -> has_it = has_it || nonce[i] == k; i++
        :: else -> break
        od;
        if
        :: !has_it && (lost == 0 || when[OF(p, k)] > when[OF(p, lost)]) -> lost = k
        :: else
        fi
      :: else
      fi;
      k++
    :: else -> break
    od;
    i = common + 1;
    do
    :: i < size -> fence_stands = fence_stands || nonce[i] >= FENCE; i++
    :: else -> break
    od;
    if
    :: GUARD(lost > 0 && !fence_stands) -> append_fence(p, place[common], lost)
    :: else
    fi;
    last_place[p] = place[common]; last_nonce[p] = nonce[common];
    take_from(p, common + 1)
  fi
}

/* reads what there is from the last entry on */
inline read(p) {
  first = 0;
  do
  :: first < size && place[first] < last_place[p] -> first++
  :: else -> break
  od;
  if
  :: looked[p] && last_place[p] > 0 &&
     !(first < size && ((place[first] == last_place[p] && nonce[first] == last_nonce[p]) || previous[first] == last_place[p])) ->
    find_common(p)
  :: else ->
    if
    :: GUARD(looked[p] && last_place[p] == 0 && was_cut[p] && !(first < size && previous[first] > 0)) ->
      HOLDS(E_gap_is_true, faulty || (looked[p] && was_cut[p]));
      told[p] = 1                      /* it was empty before, and may have been emptied again */
    :: else
    fi;
    was_cut[p] = 0;
    take_from(p, first);
    looked[p] = 1
  fi
}

/* reads, and sees that all is there of which is known that the engine has had it: of what was heard, too */
inline look(p) {
  q = waits(p);
  read(p);
  o = 1;
  do
  :: o <= EVENTS ->
    if
    :: owed[OF(p, o)] > 0 && !(size > 0 && owed[OF(p, o)] <= place[0]) -> hv = o
    :: else
    fi;
    owed[OF(p, o)] = 0;
    o++
  :: else -> break
  od;
  do
  :: q > 0 ->
    if :: p == 0 -> heard0?h,hp,_ :: p == 1 -> heard1?h,hp,_ fi;
    if
    :: h < FENCE && where[OF(p, h)] == 0 && !(size > 0 && hp <= place[0]) -> hv = h
    :: else
    fi;
    q--
  :: else -> break
  od;
  if
  :: GUARD(hv > 0) -> append_fence(p, last_place[p], hv); read(p)
  :: else
  fi;
  if
  :: joined[p]
  :: else -> joined[p] = 1; exempt[p] = acknowledged  /* what was there and is gone is of a time before it came */
  fi;
  asked[p] = 0; looks[p]++;
  o = 0; q = 0; h = 0; hp = 0; hv = 0
}

inline follow(p) {
  if
  :: p == 0 -> heard0?<h,hp,hv>
  :: p == 1 -> heard1?<h,hp,hv>
  fi;
  if
  :: where[OF(p, h)] == hp -> if :: p == 0 -> heard0?_,_,_ :: p == 1 -> heard1?_,_,_ fi
  :: where[OF(p, h)] != hp && !(looked[p] && hv == last_place[p]) && !(hv == 0) -> asked[p] = 1
  :: else ->
    if :: p == 0 -> heard0?_,_,_ :: p == 1 -> heard1?_,_,_ fi;
    is_new = (where[OF(p, h)] == 0);
    go_on_to(p, h, hp);
    if
    :: GUARD(is_new) -> pass_on(p, h)
    :: else
    fi
  fi;
  h = 0; hp = 0; hv = 0
}

/* the publisher knows that the engine has had it: if it does not come, it is lost */
inline answers(p, n, pl) {
  acknowledged = acknowledged | BIT(n);
  if
  :: where[OF(p, n)] == 0 -> owed[OF(p, n)] = pl
  :: else
  fi
}

inline reset() { i = 0; k = 0; first = 0; common = 0; lost = 0; n2 = 0; pr = 0; f = 0; is_new = 0; has_it = 0; older = 0; fence_stands = 0 }

proctype Process(byte p) {
  byte i, k, first, common, lost, n2, pr, o, q, h, hp, hv;
  byte f, pl;
  bit is_new, has_it, older, fence_stands;
  do
  :: atomic { asked[p] && looks[p] < LOOKS -> look(p); reset() }
  :: atomic { !asked[p] && waits(p) > 0 -> follow(p); reset() }
  :: atomic { published < EVENTS ->   /* either process publishes the next event */
    published++;
    append(p, published);
    answers(p, published, place[size - 1]);
    reset()
  }
#ifdef RETRIES
  :: atomic { published < EVENTS && faults < FAULTS && retries[p] == 0 ->   /* it is stored, and the answer is lost */
    faults++;
    published++;
    append(p, published);
    retries[p] = published;
    reset()
  }
  :: atomic { retries[p] > 0 ->        /* the second attempt looks for the entry, and stores it if it is gone */
    i = 0; pl = 0;
    do
    :: i < size ->
      if
      :: nonce[i] == retries[p] -> pl = place[i]
      :: else
      fi;
      i++
    :: else -> break
    od;
    if
    :: GUARD(pl > 0)
    :: else -> append(p, retries[p]); pl = place[size - 1]
    fi;
    answers(p, retries[p], pl);
    retries[p] = 0; pl = 0;
    reset()
  }
#endif
  od
}

inline forget(p) {
  if
  :: p == 0 -> do :: heard0?_,_,_ :: empty(heard0) -> break od
  :: p == 1 -> do :: heard1?_,_,_ :: empty(heard1) -> break od
  fi
}

inline cut(p) { forget(p); was_cut[p] = joined[p]; asked[p] = 1 }

active proctype Faults() {
  byte j;
  do
#ifdef CUTS
  :: atomic { faults < FAULTS -> faults++; cut(0) }
  :: atomic { faults < FAULTS -> faults++; cut(1) }
#endif
#ifdef ROLLBACKS
  :: atomic { faults < FAULTS && size > 0 -> faults++; size--; faulty = 1; cut(0); cut(1) }
#endif
#ifdef FLUSHES
  :: atomic { faults < FAULTS && size > 0 -> faults++; size = 0; faulty = 1; cut(0); cut(1) }
#endif
#ifdef RESTARTS
  :: atomic { faults < FAULTS -> faults++;
    forget(1);
    j = 0;
    do
    :: j < NONCES -> where[OF(1, j)] = 0; when[OF(1, j)] = 0; order[OF(1, j)] = 0; owed[OF(1, j)] = 0; j++
    :: else -> break
    od;
    j = 0;
    last_place[1] = 0; last_nonce[1] = 0; looked[1] = 0; tick[1] = 0; seen[1] = 0; count[1] = 0; told[1] = 0;
    retries[1] = 0; engine_place[1] = 0; engine_nonce[1] = 0; was_cut[1] = 0; joined[1] = 0;
    exempt[1] = acknowledged;
    asked[1] = 1
  }
#endif
  :: faults == FAULTS -> break
  :: timeout -> break
  od
}

init { atomic { asked[0] = 1; asked[1] = 1; run Process(0); run Process(1); } }

#define IN_ORDER(a, b) (order[OF(0, a)] == 0 || order[OF(0, b)] == 0 || order[OF(1, a)] == 0 || order[OF(1, b)] == 0 || \
  ((order[OF(0, a)] < order[OF(0, b)]) == (order[OF(1, a)] < order[OF(1, b)])))

active proctype Silence() {
  timeout;
  HOLDS(E_all_caught_up, !asked[0] && !asked[1] && waits(0) == 0 && waits(1) == 0);
  HOLDS(E_lost_is_told, (acknowledged & ~(seen[0] | exempt[0])) == 0 || told[0]);
  HOLDS(E_lost_is_told, (acknowledged & ~(seen[1] | exempt[1])) == 0 || told[1]);
  HOLDS(E_one_order, told[0] || told[1] || (IN_ORDER(1, 2) && IN_ORDER(1, 3) && IN_ORDER(2, 3)))
}
