"""SQLAlchemy's asynchronous ORM on asyncpg: greenlets that wait for the loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from examples.local_servers import HOST, LocalServer

pytest.importorskip("asyncpg")
pytest.importorskip("greenlet")
sqlalchemy = pytest.importorskip("sqlalchemy")
orm = pytest.importorskip("sqlalchemy.orm")
orm_async = pytest.importorskip("sqlalchemy.ext.asyncio")

pytestmark = pytest.mark.services

Base: Any = orm.declarative_base()


class Author(Base):
    __tablename__ = "authors"
    id = sqlalchemy.Column(sqlalchemy.Integer, primary_key=True)
    name = sqlalchemy.Column(sqlalchemy.String, unique=True)
    books = orm.relationship("Book", order_by="Book.id", back_populates="author")


class Book(Base):
    __tablename__ = "books"
    id = sqlalchemy.Column(sqlalchemy.Integer, primary_key=True)
    title = sqlalchemy.Column(sqlalchemy.String)
    author_id = sqlalchemy.Column(sqlalchemy.ForeignKey("authors.id"))
    author = orm.relationship("Author", back_populates="books")


@asynccontextmanager
async def sessions_of(server: LocalServer) -> AsyncIterator[Any]:
    """A factory of sessions; the tables exist until the end of the block."""
    engine = orm_async.create_async_engine(
        f"postgresql+asyncpg://postgres@{HOST}:{server.port}/postgres", pool_size=4
    )
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    try:
        yield orm_async.async_sessionmaker(engine, expire_on_commit=False)
    finally:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
        await engine.dispose()


async def test_objects_that_a_session_saved_are_read_by_another(
    loop: asyncio.AbstractEventLoop, postgresql: LocalServer
) -> None:
    titles = [f"volume {number}" for number in range(100)]
    async with sessions_of(postgresql) as new_session:
        async with new_session() as session, session.begin():
            session.add(Author(name="Agatha", books=[Book(title=title) for title in titles]))
        async with new_session() as session:
            query = sqlalchemy.select(Author).options(orm.selectinload(Author.books))
            (author,) = (await session.scalars(query)).all()
            assert [book.title for book in author.books] == titles


async def test_streamed_result_is_read_in_parts(
    loop: asyncio.AbstractEventLoop, postgresql: LocalServer
) -> None:
    async with sessions_of(postgresql) as new_session, new_session() as session:
        rows = await session.stream(sqlalchemy.text("SELECT generate_series(1, 5000)"))
        assert [row[0] async for row in rows] == list(range(1, 5001))


async def test_transaction_that_fails_is_rolled_back(
    loop: asyncio.AbstractEventLoop, postgresql: LocalServer
) -> None:
    async with sessions_of(postgresql) as new_session:
        with pytest.raises(sqlalchemy.exc.IntegrityError):
            async with new_session() as session, session.begin():
                session.add_all([Author(name="twice"), Author(name="twice")])
        async with new_session() as session:
            count = sqlalchemy.select(sqlalchemy.func.count()).select_from(Author)
            assert await session.scalar(count) == 0


async def test_sessions_at_once_share_the_pool(
    loop: asyncio.AbstractEventLoop, postgresql: LocalServer
) -> None:
    async with sessions_of(postgresql) as new_session:

        async def save(number: int) -> None:
            async with new_session() as session, session.begin():
                session.add(Author(name=f"author {number}"))

        await asyncio.gather(*map(save, range(30)))
        async with new_session() as session:
            names = (await session.scalars(sqlalchemy.select(Author.name))).all()
            assert sorted(names) == sorted(f"author {number}" for number in range(30))
