"""`Log`: what a channel keeps; compared with a plain list of all events that there ever were."""

from __future__ import annotations

import random

from h3ref.channel.log import Log


def test_readers_at_their_own_pace_get_every_event_once_and_in_order() -> None:
    random.seed(7)
    log, all_data = Log(), []
    cursors, got = [0, 0, 0], [b"", b"", b""]
    for number in range(500):
        data = b"%d" % number * random.randint(1, 9)
        log.append(str(number), data)
        all_data.append(data)
        reader = random.randrange(3)
        for _ in range(random.randrange(8)):
            if cursors[reader] < log.end:
                most = random.randrange(40)
                data, stop = log.read(cursors[reader], most)
                assert data == b"".join(log.events(cursors[reader], stop))
                assert stop == cursors[reader] + 1 or len(data) <= most
                cursors[reader], got[reader] = stop, got[reader] + data
        log.forget_before(min(cursors))
        assert log.size - log.offset(min(cursors)) == sum(map(len, all_data[min(cursors) :]))
    for reader in range(3):
        assert got[reader] == b"".join(all_data[: cursors[reader]])
    assert len(log) == log.end - log.start < 500


def test_what_nobody_reads_is_counted_and_not_kept() -> None:
    log = Log()
    log.append("1", b"kept")
    log.skip("2", b"lost")
    assert (len(log), log.start, log.end, log.size) == (0, 2, 2, 8)
    log.append("3", b"next")
    assert log.read(2, 100) == (b"next", 3)
    assert log.offset(2) == 8
    assert log.offset(3) == 12


def test_who_has_had_the_last_event_that_was_forgotten_has_missed_nothing() -> None:
    log = Log()
    for number in range(5):
        log.append(str(number), b"event")
    log.forget_before(3)
    assert [log.number_after(id) for id in "1234"] == [None, 3, 4, 5]
    log.skip("5", b"lost")
    assert [log.number_after(id) for id in "2345"] == [None, None, None, 6]
    log.skip(None, b"after it")
    assert log.number_after("5") is None


def test_the_last_event_with_an_id_is_the_one_that_counts() -> None:
    log = Log()
    for id in ("a", None, "b", "a", "c"):
        log.append(id, b"x")
    assert log.number_after("a") == 4
    assert log.number_after("c") == 5
    assert log.number_after("z") is None
    log.forget_before(4)
    assert log.number_after("b") is None
    log.forget_before(5)
    assert log.number_after("a") is None


class Counted(str):
    """An id that counts how often any is compared with another."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return str(self) == other


def test_to_look_for_an_id_costs_the_same_however_many_are_kept() -> None:
    log = Log()
    for number in range(10_000):
        log.append(Counted(number), b"x")
    before = Counted.compared
    assert [log.number_after(Counted(id)) for id in ("unknown", "0", "9999")] == [None, 1, 10_000]
    assert Counted.compared - before < 10


def test_ids_are_found_as_in_a_plain_list_and_forgotten_with_their_events() -> None:
    random.seed(11)
    log, ids = Log(), list[str | None]()
    for _ in range(600):
        id = random.choice([None, *map(str, range(20))])
        ids.append(id)
        if random.random() < 0.02:
            log.skip(id, b"x")
        else:
            log.append(id, b"x")
        if random.random() < 0.1:
            log.forget_before(random.randint(log.start, log.end))
        known = range(max(0, log.start - 1), log.end)  # that right before the first counts as known
        for wanted in map(str, range(21)):
            places = [place for place in known if ids[place] == wanted]
            assert log.number_after(wanted) == (places[-1] + 1 if places else None)
        assert len(log._after) == len({id for id in ids[log.start :] if id is not None})


def test_an_offset_leads_to_the_first_event_that_begins_there_or_later() -> None:
    log = Log()
    for data in (b"aa", b"bbb", b"c"):
        log.append(None, data)
    assert [log.number_at(offset) for offset in range(8)] == [0, 1, 1, 2, 2, 2, 3, 3]


def test_all_who_read_to_the_end_share_its_blocks_wherever_they_begin() -> None:
    log, events = Log(), [bytes([65 + number % 26]) * 3000 for number in range(200)]
    for event in events:
        log.append(None, event)
    rests = [[data for data, _ in log.blocks(number)] for number in (0, 7, 8, 150)]
    for number, rest in zip((0, 7, 8, 150), rests, strict=True):
        assert b"".join(rest) == b"".join(events[number:])
    assert all(one is other for one, other in zip(rests[0][1:], rests[1][1:], strict=True))
    assert all(one is other for one, other in zip(rests[1][1:], rests[2][1:], strict=True))
    assert rests[3][-1] is rests[0][-1]
    assert [stop for _, stop in log.blocks(0)][-1] == log.end
    assert list(log.blocks(log.end)) == []
    log.append(None, b"more")
    assert b"".join(data for data, _ in log.blocks(150)) == b"".join([*events[150:], b"more"])
