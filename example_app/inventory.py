"""The origin's database: one SQLite file, used from one thread of its own."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from example_app.documents import Answer, RefusedError, Write, decide

T = TypeVar("T")

KEY_LIFETIME_SECONDS = 24 * 3600.0
LIST_LIMIT = 1000

SCHEMA = """
CREATE TABLE IF NOT EXISTS items (id TEXT PRIMARY KEY, body BLOB NOT NULL, updated REAL NOT NULL);
CREATE TABLE IF NOT EXISTS keys (
    key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, status INTEGER NOT NULL, body BLOB, location TEXT,
    created REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS effects (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, path TEXT NOT NULL, method TEXT NOT NULL, key TEXT,
    body BLOB NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class Item:
    """A stored item: its JSON text and the time of its last change, seconds since the epoch."""

    item_id: str
    body: bytes
    updated: float


@dataclass(frozen=True, slots=True)
class Effect:
    """One applied write; `seq` counts them all in the order of their commits."""

    seq: int
    path: str
    method: str
    key: str | None
    body: bytes


class Inventory:
    """Keeps items, applied writes and the answers of idempotency keys."""

    def __init__(self, connection: sqlite3.Connection, worker: ThreadPoolExecutor) -> None:
        self._connection = connection
        self._worker = worker

    @classmethod
    async def open(cls, path: Path, *, seeds: int = 20) -> Self:
        """Open or create the database; an empty one gets `seeds` items."""
        worker = ThreadPoolExecutor(1, thread_name_prefix="inventory")
        loop = asyncio.get_running_loop()
        connection = await loop.run_in_executor(worker, _connect, path)
        inventory = cls(connection, worker)
        await inventory._run(lambda: inventory._prepare(seeds))
        return inventory

    async def item(self, item_id: str) -> Item | None:
        """Return an item, or None."""
        return await self._run(lambda: self._select(item_id))

    async def items(self) -> list[Item]:
        """Return the newest items, at most `LIST_LIMIT`, ordered by id."""
        return await self._run(self._select_all)

    async def apply(self, write: Write) -> Answer:
        """Apply a write once; a known idempotency key gets its stored answer. Raises RefusedError."""
        return await self._run(lambda: self._apply(write))

    async def effects(self, *, after: int = 0, limit: int = LIST_LIMIT) -> list[Effect]:
        """Return applied writes with `seq > after`, oldest first."""
        return await self._run(lambda: self._select_effects(after, limit))

    async def count_effects(self) -> int:
        """Return how many writes were applied."""
        return await self._run(self._count_effects)

    async def close(self) -> None:
        """Close the file and end the thread."""
        await self._run(self._connection.close)
        self._worker.shutdown()

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, call)

    def _prepare(self, seeds: int) -> None:
        self._connection.executescript(SCHEMA)
        with self._transaction() as cursor:
            cursor.execute("DELETE FROM keys WHERE created < ?", (time.time() - KEY_LIFETIME_SECONDS,))
            if cursor.execute("SELECT NOT EXISTS (SELECT 1 FROM items)").fetchone()[0]:
                cursor.executemany("INSERT INTO items VALUES (?, ?, ?)", _seeds(seeds))

    def _select(self, item_id: str) -> Item | None:
        row = self._connection.execute("SELECT * FROM items WHERE id = ?", (item_id,)).fetchone()
        return None if row is None else Item(*row)

    def _select_all(self) -> list[Item]:
        query = "SELECT * FROM (SELECT * FROM items ORDER BY updated DESC LIMIT ?) ORDER BY length(id), id"
        return [Item(*row) for row in self._connection.execute(query, (LIST_LIMIT,))]

    def _select_effects(self, after: int, limit: int) -> list[Effect]:
        query = "SELECT seq, path, method, key, body FROM effects WHERE seq > ? ORDER BY seq LIMIT ?"
        return [Effect(*row) for row in self._connection.execute(query, (after, limit))]

    def _count_effects(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM effects").fetchone()[0])

    def _apply(self, write: Write) -> Answer:
        # One transaction for key, effect and item: a key without its effect, or the reverse, cannot exist.
        with self._transaction() as cursor:
            stored = _stored_answer(cursor, write)
            if stored is not None:
                return stored
            item = self._select(write.item_id)
            answer = decide(write, None if item is None else item.body)
            _store(cursor, write, answer)
            return answer

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        cursor = self._connection.cursor()
        cursor.execute("BEGIN IMMEDIATE")
        try:
            yield cursor
        except BaseException:
            cursor.execute("ROLLBACK")
            raise
        cursor.execute("COMMIT")


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA busy_timeout = 5000")
    return connection


def _seeds(count: int) -> list[tuple[str, bytes, float]]:
    now = time.time()
    return [(str(n), f'{{"name":"item {n}","stock":{100 + n}}}'.encode(), now) for n in range(1, count + 1)]


def _stored_answer(cursor: sqlite3.Cursor, write: Write) -> Answer | None:
    if write.key is None:
        return None
    query = "SELECT fingerprint, status, body, location FROM keys WHERE key = ?"
    row = cursor.execute(query, (write.key,)).fetchone()
    if row is None:
        return None
    fingerprint, status, body, location = row
    if fingerprint != write.fingerprint:
        raise RefusedError(422, "Idempotency key reused", "this Idempotency-Key came with another request before")
    return Answer(status, body, location, replayed=True)


def _store(cursor: sqlite3.Cursor, write: Write, answer: Answer) -> None:
    now = time.time()
    if answer.body is None:
        cursor.execute("DELETE FROM items WHERE id = ?", (write.item_id,))
    else:
        cursor.execute("REPLACE INTO items VALUES (?, ?, ?)", (write.item_id, answer.body, now))
    effect = (write.path, write.method, write.key, write.body)
    cursor.execute("INSERT INTO effects (path, method, key, body) VALUES (?, ?, ?, ?)", effect)
    if write.key is not None:
        row = (write.key, write.fingerprint, answer.status, answer.body, answer.location, now)
        cursor.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?)", row)
