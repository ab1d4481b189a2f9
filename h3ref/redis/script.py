"""The script with which a server appends an entry; and reading back what the server keeps and tells."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from ..engine.port import Entry

APPEND: Final = """
local key = KEYS[1]
local nonce, kind, own, data, keep, ttl, since, search, last = unpack(ARGV)
local place_of = function(id) return string.match(id, '^(%d+%-%d+)') or '' end

local function earlier(one, other)
  local a, b = string.match(one, '^(%d+)%-(%d+)')
  local c, d = string.match(other, '^(%d+)%-(%d+)')
  a, b, c, d = tonumber(a), tonumber(b), tonumber(c), tonumber(d)
  return a < c or (a == c and b < d)
end

-- The id of the entry that is to be there once; false if there is surely none, nil if that can't be told.
local function find()
  local from, at, first, seen = place_of(since), '+', nil, 0
  while seen < 1000 do
    local page = redis.call('XREVRANGE', key, at, '-', 'COUNT', 64)
    for _, entry in ipairs(page) do
      local fields = entry[2]
      if from ~= '' and (entry[1] == from or (kind == '0' and earlier(entry[1], from))) then return false end
      if (kind == '1' and fields[6] == '1') or (kind == '0' and fields[4] == nonce) then
        return entry[1] .. '-' .. fields[4]
      end
      first = entry
    end
    seen = seen + #page
    if #page < 64 then
      local previous = first and first[2][2] or ''
      if (previous == '' or previous == from) and not (kind == '1' and from ~= '') then return false end
      return nil
    end
    at = '(' .. page[#page][1]
  end
  return nil
end

local function add(previous, nonce, kind, own, data)
  local place = redis.call('XADD', key, 'MAXLEN', '~', keep, '*',
    'p', previous, 'u', nonce, 'k', kind, 'i', own, 'd', data)
  redis.call('PUBLISH', key,
    table.concat({place, previous, nonce, kind, #own, own .. data}, ' '))
  return place
end

local id
if search == '1' then
  id = find()
  if id == nil then return '' end
end
if not id then
  local tip = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  local previous = tip and tip[1] or ''
  local known = place_of(last)
  if kind == '0' and known ~= '' and previous ~= '' then
    local had = previous == known and tip or redis.call('XRANGE', key, known, known)[1]
    if not (had and had[2][4] == string.sub(last, #known + 2)) then
      if earlier(redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1][1], known) then
        local told = false
        for _, entry in ipairs(redis.call('XRANGE', key, '(' .. known, '+', 'COUNT', 1000)) do
          told = told or entry[2][6] == '1'
        end
        if not told then previous = add(previous, 'f' .. string.sub(last, -8), '1', '', '') end
      end
    end
  end
  id = add(previous, nonce, kind, own, data) .. '-' .. nonce
end
if ttl ~= '0' then redis.call('PEXPIRE', key, ttl) else redis.call('PERSIST', key) end
return id
"""
"""Returns the entry's id, even if it was there already; "" if it can't be told whether it was.

A second attempt searches for what the first may have left, from the newest on. A first one finds out whether the last
entry that the process knows of is gone, and if so puts a fence before its own. PEXPIRE is a write even where nothing is
appended, so that WAIT waits for it.
"""

DIGEST: Final = hashlib.sha1(APPEND.encode()).hexdigest()
"""By it, a server that has the script knows it."""


def entry_of(item: Any) -> Entry:
    """An entry of a stream, as XRANGE has it: its place, and its fields and their values in turn."""
    place, pairs = item
    fields = dict(zip(pairs[::2], pairs[1::2], strict=False))
    previous, nonce, kind, own, data = (fields.get(name, b"") for name in (b"p", b"u", b"k", b"i", b"d"))
    return _entry(place, previous, nonce, kind, own, data)


def entry_of_message(payload: bytes) -> Entry | None:
    """An entry as the script publishes it; None for any other message."""
    try:
        place, previous, nonce, kind, size, rest = payload.split(b" ", 5)
        length = int(size)
    except ValueError:
        return None
    return _entry(place, previous, nonce, kind, rest[:length], rest[length:])


def _entry(place: bytes, previous: bytes, nonce: bytes, kind: bytes, own: bytes, data: bytes) -> Entry:
    return Entry(
        f"{place.decode()}-{nonce.decode(errors='replace')}",
        previous.decode(errors="replace"),
        data,
        own.decode(errors="replace"),
        kind == b"1",
    )
