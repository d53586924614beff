"""The simulated chain: blocks, mining, validation, and the store in which a node keeps them.

The store is a folder of segment files of a hundred blocks, one JSON object per line. Files are opened by path for every
read and write, so that reads fail when the folder is moved away, as on a lost disk.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from xai_runbook.sandbox.supervisor.component import START_HEIGHT, seed_hash

DIFFICULTY = "00"
"""Prefix of a mined block's hash: about 256 tries, so that the proof of work is real but cheap."""

SEGMENT = 100
"""Blocks per segment file."""
BLOCKS_KEPT = 1_500
"""Blocks that a node keeps, on disk and in memory: about half an hour. Older ones are pruned."""


@dataclass(frozen=True, slots=True)
class Block:
    """One block. ``mined_at`` is in seconds since 1970; ``transactions`` holds identifiers."""

    height: int
    hash: str
    parent_hash: str
    mined_at: float
    miner: str
    nonce: int
    transactions: tuple[str, ...]
    size_bytes: int

    def line(self) -> str:
        """Return the block as one line of JSON, as it is stored."""
        return json.dumps(asdict(self), separators=(",", ":"))


def from_dict(fields: dict[str, object]) -> Block:
    """Return a block from decoded JSON. Raises TypeError for missing or unknown fields."""
    block = Block(**fields)  # type: ignore[arg-type]  # received blocks are checked by follows()
    return Block(**{**asdict(block), "transactions": tuple(block.transactions)})


def _content(height: int, parent_hash: str, mined_at: float, miner: str, transactions: Sequence[str]) -> str:
    return json.dumps([height, parent_hash, mined_at, miner, list(transactions)])


def mine(parent: Block, miner: str, transactions: Sequence[str], at: float) -> Block:
    """Return the block after ``parent``, with the first nonce that meets the difficulty."""
    mined_at = round(at, 3)
    content = _content(parent.height + 1, parent.hash, mined_at, miner, transactions)
    nonce = 0
    while not (digest := sha256(f"{content}{nonce}".encode()).hexdigest()).startswith(DIFFICULTY):
        nonce += 1
    size = 420 + 310 * len(transactions)
    return Block(parent.height + 1, digest, parent.hash, mined_at, miner, nonce, tuple(transactions), size)


def follows(block: Block, parent: Block) -> bool:
    """Return whether ``block`` is a valid successor of ``parent``: height, parent's hash, own hash and proof of work.

    Seeded blocks were never mined; only their hash is checked.
    """
    if block.height != parent.height + 1 or block.parent_hash != parent.hash:
        return False
    if block.height <= START_HEIGHT:
        return block.hash == seed_hash(block.height)
    content = _content(block.height, block.parent_hash, block.mined_at, block.miner, block.transactions)
    return block.hash == sha256(f"{content}{block.nonce}".encode()).hexdigest() and block.hash.startswith(DIFFICULTY)


def seeded_blocks(at: float, count: int = 120, seconds_per_block: float = 1.2) -> list[Block]:
    """Return the blocks up to START_HEIGHT, the last mined at ``at``; hashes are the same as in the database."""
    return [
        Block(
            height=height,
            hash=seed_hash(height),
            parent_hash=seed_hash(height - 1),
            mined_at=round(at - (START_HEIGHT - height) * seconds_per_block, 3),
            miner="node-1",
            nonce=0,
            transactions=(),
            size_bytes=420,
        )
        for height in range(START_HEIGHT - count + 1, START_HEIGHT + 1)
    ]


class Chain:
    """A node's blocks: recent ones in memory, all that are kept in the store."""

    def __init__(self, folder: Path) -> None:
        """Load the store. Raises FileNotFoundError if there is no folder or no complete block in it."""
        self.folder = folder
        self._blocks: dict[int, Block] = {}
        self._unwritten: list[Block] = []
        for segment in sorted(folder.glob("*.jsonl"), key=lambda path: int(path.stem))[-BLOCKS_KEPT // SEGMENT :]:
            text = segment.read_text(encoding="ascii")
            complete = text[: text.rfind("\n") + 1]
            if complete != text:  # the process was killed while it wrote the last line
                segment.write_text(complete, encoding="ascii")
            for line in complete.splitlines():
                block = from_dict(json.loads(line))
                self._blocks[block.height] = block
        if not self._blocks:
            raise FileNotFoundError(f"no blocks in {folder}")
        self.tip = self._blocks[max(self._blocks)]

    @staticmethod
    def create(folder: Path, blocks: Iterable[Block]) -> None:
        """Write a new store. Raises FileExistsError if there is one."""
        folder.mkdir(mode=0o700, parents=True)
        segments: dict[int, list[str]] = {}
        for block in blocks:
            segments.setdefault(block.height // SEGMENT, []).append(block.line() + "\n")
        for number, lines in segments.items():
            (folder / f"{number}.jsonl").write_text("".join(lines), encoding="ascii")

    @property
    def height(self) -> int:
        """Height of the newest block."""
        return self.tip.height

    def append(self, block: Block) -> None:
        """Make the block the new tip, then store it.

        Raises OSError if the store cannot be written; the block stays in memory and is stored with the next one.
        """
        self._blocks[block.height] = block
        self.tip = block
        self._unwritten.append(block)
        self._blocks.pop(block.height - BLOCKS_KEPT, None)
        if block.height % SEGMENT == 0:
            (self.folder / f"{block.height // SEGMENT - BLOCKS_KEPT // SEGMENT - 1}.jsonl").unlink(missing_ok=True)
        while self._unwritten:
            first = self._unwritten[0]
            with open(self.folder / f"{first.height // SEGMENT}.jsonl", "a", encoding="ascii") as file:
                file.write(first.line() + "\n")
            self._unwritten.pop(0)

    def clear(self) -> None:
        """Delete all blocks of a node whose peers no longer keep its next block. The caller must append one at once."""
        self._blocks.clear()
        self._unwritten.clear()
        for segment in self.folder.glob("*.jsonl"):
            segment.unlink()

    def recent(self, first: int, count: int) -> list[Block]:
        """Return up to ``count`` blocks in memory, from height ``first`` or the oldest one that is kept."""
        first = max(first, min(self._blocks))
        return [self._blocks[height] for height in range(first, first + count) if height in self._blocks]

    def read(self, height: int) -> Block | None:
        """Return the block of that height from the store, or None if it has no such block.

        Raises OSError if the store itself cannot be read.
        """
        path = self.folder / f"{height // SEGMENT}.jsonl"
        try:
            lines = path.read_text(encoding="ascii").splitlines()
        except FileNotFoundError:
            self.folder.stat()  # raises if the store is lost; a pruned or future segment is None
            return None
        for line in reversed(lines):
            if line.startswith(f'{{"height":{height},'):
                return from_dict(json.loads(line))
        return None
