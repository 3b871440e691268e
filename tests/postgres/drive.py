"""Two drivers as they are, through the gateway: `drive.py HOST PORT TOKEN`. Fails where they would."""

import asyncio
import os
import sys

import asyncpg
import psycopg

host, port, token = sys.argv[1], int(sys.argv[2]), sys.argv[3]
server = {"host": host, "port": port, "user": "agent", "password": token}

with psycopg.connect(dbname="crm", **server) as connection:
    row = connection.execute("SELECT id, region FROM customers WHERE id = %s", (4,)).fetchone()
    assert row == (4, "eu"), row
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO orders (customer, total) VALUES (%s, %s)", [(n, n) for n in range(300)])
        for n in range(8):  # prepared by name after the fifth
            cursor.execute("SELECT count(*) FROM orders WHERE customer >= %s", (n,))
            assert cursor.fetchone() == (300 - n,)
        with cursor.copy("COPY orders (customer, total) FROM STDIN") as copy:
            for n in range(1000):
                copy.write_row((n, n))
        with cursor.copy("COPY (SELECT id FROM orders) TO STDOUT") as copy:
            assert sum(1 for _ in copy.rows()) == 1300
    with connection.cursor("named") as cursor:
        cursor.execute("SELECT id FROM orders")
        assert len(cursor.fetchmany(10)) == 10
    try:
        connection.execute("SELECT secret FROM customers WHERE id = %s", (1,))
        raise SystemExit("a column that is not granted was read")
    except psycopg.errors.InsufficientPrivilege as error:
        assert "decision dec_" in error.diag.message_detail
    try:
        connection.execute("SELECT 1")
        raise SystemExit("the transaction went on after an error")
    except psycopg.errors.InFailedSqlTransaction:
        pass
    connection.rollback()
    with connection.pipeline():
        one = connection.execute("SELECT id FROM customers WHERE id = %s", (2,))
        two = connection.execute("SELECT id FROM customers WHERE id = %s", (4,))
    assert (one.fetchall(), two.fetchall()) == ([(2,)], [(4,)])
    # A session that has a table in use does not keep others from beginning.
    with psycopg.connect(dbname="crm", **server) as second:
        assert second.execute("SELECT count(*) FROM customers").fetchone() == (50,)


async def main():
    connection = await asyncpg.connect(database="crm", **server)
    statement = await connection.prepare("SELECT name FROM customers WHERE id = $1")
    assert [await statement.fetchval(n) for n in (2, 3, 4)] == ["n2", None, "n4"]
    async with connection.transaction():
        await connection.execute("INSERT INTO orders (customer, total) VALUES ($1, $2)", 1, 2)
        assert [row async for row in connection.cursor("SELECT customer FROM orders")] == [(1,)]
    try:
        await connection.fetch("SELECT secret FROM customers")
        raise SystemExit("a column that is not granted was read")
    except asyncpg.InsufficientPrivilegeError:
        pass
    await connection.copy_from_query("SELECT id FROM orders", output=os.devnull)
    await connection.executemany("INSERT INTO orders (customer, total) VALUES ($1, $2)", [(n, n) for n in range(3000)])
    assert await connection.fetchval("SELECT count(*) FROM orders") == 3001
    await connection.close()
    async with asyncpg.create_pool(database="crm", min_size=2, max_size=4, **server) as pool:
        counts = await asyncio.gather(*[pool.fetchval("SELECT count(*) FROM customers") for _ in range(20)])
        assert set(counts) == {50}


asyncio.run(main())
print("done")
