"""What PyTorch's CUDA caching allocator would reserve for a sequence of allocations.

The allocator asks the driver for *segments*, cuts *blocks* from them and keeps what is freed, so the memory that a GPU
must have (*reserved*) is more than what tensors occupy (*allocated*). The rules and numbers are those of
https://github.com/pytorch/pytorch/blob/v2.9.0/c10/cuda/CUDACachingAllocator.cpp with its default settings, one stream.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MIB = 2**20
MIN_BLOCK = 512  # kMinBlockSize: every request is rounded up to a multiple
SMALL_SIZE = MIB  # kSmallSize: the largest request that the small pool serves
SMALL_BUFFER = 2 * MIB  # kSmallBuffer: a segment of the small pool
LARGE_BUFFER = 20 * MIB  # kLargeBuffer: a segment for requests of 1 to 10 MiB
MIN_LARGE = 10 * MIB  # kMinLargeAlloc: from here on a request gets a segment of its own ...
ROUND_LARGE = 2 * MIB  # kRoundLarge: ... rounded up to a multiple of this


class OutOfMemory(Exception):  # noqa: N818 - named as torch names it
    """A request that does not fit below the cap after cached segments were given back: bytes asked, bytes reserved."""

    def __init__(self, asked: int, reserved: int) -> None:
        super().__init__(f"out of memory: {asked} bytes asked, {reserved} bytes reserved")
        self.asked, self.reserved = asked, reserved


@dataclass(eq=False)
class Block:
    """A piece of a segment, of the small pool or the large one: its first byte, its bytes, its neighbours."""

    address: int
    size: int
    small: bool
    free: bool = True
    before: Block | None = None
    after: Block | None = None


@dataclass
class _Pool:
    """The free blocks of one pool, smallest first; ``last`` ends the segment that can expand."""

    free: list[tuple[int, int]] = field(default_factory=list)
    blocks: dict[int, Block] = field(default_factory=dict)
    last: Block | None = None

    def add(self, block: Block) -> None:
        insort(self.free, (block.size, block.address))
        self.blocks[block.address] = block

    def remove(self, block: Block) -> None:
        del self.free[bisect_left(self.free, (block.size, block.address))]
        del self.blocks[block.address]

    def pages_for(self, size: int, *, small: bool) -> int:
        """Bytes to map at the end of the expandable segment for `size` of them, beside what is free there."""
        spare = self.last.size if self.last is not None and self.last.free else 0
        return _up(size - spare, page(small=small))


class CachingAllocator:
    """One GPU's allocator: bytes given to tensors, bytes of all segments, and the most that they have been.

    `expandable` is ``expandable_segments:True``: one segment a pool, that grows and shrinks. `cap` limits the bytes of
    all segments. `retries` counts how often cached ones had to be given back for a request.
    """

    def __init__(self, *, expandable: bool = False, cap: int | None = None) -> None:
        self.expandable = expandable
        self.cap = cap
        self.allocated = self.reserved = self.peak_allocated = self.peak_reserved = self.retries = 0
        self._pools = {True: _Pool(), False: _Pool()}
        self._next = 0

    def allocate(self, size: int) -> Block:
        """A block of at least `size` bytes. Raises OutOfMemory where it does not fit below the cap."""
        size = rounded(size)
        small = size <= SMALL_SIZE
        block = self._best_fit(size, small=small) or self._new(size, small=small)
        rest = block.size - size
        # should_split(): the large pool does not cut off pieces that only the small pool could use
        if rest >= MIN_BLOCK if small or self.expandable else rest > SMALL_SIZE:
            self._split(block, size)
        block.free = False
        self.allocated += block.size
        self.peak_allocated = max(self.peak_allocated, self.allocated)
        return block

    def release(self, block: Block) -> None:
        """Take a block back; it melts with free neighbours."""
        pool = self._pools[block.small]
        self.allocated -= block.size
        block.free = True
        if block.before is not None and block.before.free:
            pool.remove(block.before)
            block = self._join(block.before, block)
        if block.after is not None and block.after.free:
            pool.remove(block.after)
            block = self._join(block, block.after)
        pool.add(block)

    def live_and_free(self) -> tuple[int, int]:
        """Bytes given out and bytes cached: together always `reserved`."""
        return self.allocated, sum(size for pool in self._pools.values() for size, _ in pool.free)

    def _best_fit(self, size: int, *, small: bool) -> Block | None:
        """The smallest free block that holds `size`; the end of an expandable segment comes last."""
        pool = self._pools[small]
        place = bisect_left(pool.free, (size, -1))
        fitting = pool.free[place : place + 2]
        if not fitting:
            return None
        block = pool.blocks[fitting[0][1]]
        # get_free_block(): the end counts as large as it may grow, so any other block is the better fit
        if block is pool.last:
            block = pool.blocks[fitting[-1][1]]
        pool.remove(block)
        return block

    def _new(self, size: int, *, small: bool) -> Block:
        """A block from memory that the driver gives."""
        if self.expandable:
            return self._expand(size, small=small)
        wanted = SMALL_BUFFER if small else LARGE_BUFFER if size < MIN_LARGE else _up(size, ROUND_LARGE)
        if not self._fits(wanted):
            self._give_back()
        self._reserve(wanted)
        block = Block(self._next, wanted, small)
        self._next += wanted + MIN_BLOCK  # a gap: segments never touch
        return block

    def _expand(self, size: int, *, small: bool) -> Block:
        """Map more pages at the end of the pool's only segment."""
        pool = self._pools[small]
        wanted = pool.pages_for(size, small=small)
        if not self._fits(wanted):
            self._give_back()  # the free end of this very segment too, so that more of it is to be mapped now
            wanted = pool.pages_for(size, small=small)
        self._reserve(wanted)
        last = pool.last
        if last is not None and last.free:
            pool.remove(last)
            last.size += wanted
            return last
        address = last.address + last.size if last is not None else (0 if small else 2**60)
        block = Block(address, wanted, small, before=last)
        if last is not None:
            last.after = block
        pool.last = block
        return block

    def _fits(self, size: int) -> bool:
        return self.cap is None or self.reserved + size <= self.cap

    def _reserve(self, size: int) -> None:
        """Account for `size` bytes from the driver. Raises OutOfMemory where they do not fit."""
        if not self._fits(size):
            raise OutOfMemory(size, self.reserved)
        self.reserved += size
        self.peak_reserved = max(self.peak_reserved, self.reserved)

    def _give_back(self) -> None:
        """release_cached_blocks(): segments that hold nothing; of an expandable one, whole pages at its end."""
        self.retries += 1
        for small, pool in self._pools.items():
            if not self.expandable:
                for block in list(pool.blocks.values()):
                    if block.before is None and block.after is None:
                        pool.remove(block)
                        self.reserved -= block.size
            elif (last := pool.last) is not None and last.free:
                pool.remove(last)
                rest = last.size % page(small=small)
                self.reserved -= last.size - rest
                last.size = rest
                if rest:
                    pool.add(last)
                else:
                    pool.last = last.before
                    if last.before is not None:
                        last.before.after = None

    def _split(self, block: Block, size: int) -> None:
        """Leave `size` bytes in `block` and make the rest free."""
        pool = self._pools[block.small]
        rest = Block(block.address + size, block.size - size, block.small, before=block, after=block.after)
        if block.after is not None:
            block.after.before = rest
        block.after, block.size = rest, size
        if pool.last is block:
            pool.last = rest
        pool.add(rest)

    def _join(self, left: Block, right: Block) -> Block:
        """`left`, with `right` melted into it."""
        pool = self._pools[left.small]
        left.size += right.size
        left.after = right.after
        if right.after is not None:
            right.after.before = left
        if pool.last is right:
            pool.last = left
        return left


@dataclass(frozen=True)
class Replay:
    """What a sequence of events comes to, in bytes."""

    # The peak of blocks in use. A block of the large pool can be up to 1 MiB larger than its tensor, and PyTorch counts
    # blocks too (stats.allocated_bytes grows by block->size)
    allocated: int
    reserved: int  # the peak of segments
    fits: bool  # whether it stayed below the cap
    peak_at: int = -1  # the index of the event that made `allocated`; -1 without events
    retries: int = 0  # how often cached segments had to be given back
    failed_at: int | None = None  # the index of the event that did not fit


def replay(events: Iterable[tuple[int, int]], *, expandable: bool = False, cap: int | None = None) -> Replay:
    """Run events through a `CachingAllocator`: ``(name, bytes)`` when a tensor is made, ``(name, 0)`` when it dies."""
    allocator = CachingAllocator(expandable=expandable, cap=cap)
    live: dict[int, Block] = {}
    failed_at, peak_at, peak = None, -1, 0
    for index, (name, size) in enumerate(events):
        try:
            if size:
                live[name] = allocator.allocate(size)
            elif name in live:
                allocator.release(live.pop(name))
        except OutOfMemory:
            failed_at = index
            break
        if allocator.peak_allocated > peak:
            peak, peak_at = allocator.peak_allocated, index
    return Replay(peak, allocator.peak_reserved, failed_at is None, peak_at, allocator.retries, failed_at)


def rounded(size: int) -> int:
    """Bytes that a tensor of `size` bytes occupies: ``round_size()``."""
    return max(MIN_BLOCK, _up(size, MIN_BLOCK))


def page(*, small: bool) -> int:
    """Bytes by which an expandable segment grows and shrinks."""
    return SMALL_BUFFER if small else LARGE_BUFFER


def _up(size: int, step: int) -> int:
    return -(-size // step) * step
