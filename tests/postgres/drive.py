"""Two drivers as they are, through the gateway: `drive.py HOST PORT TOKEN`. Fails where they would."""

import asyncio
import os
import sys
import threading
import time

import asyncpg
import psycopg

host, port, token = sys.argv[1], int(sys.argv[2]), sys.argv[3]
server = {"host": host, "port": port, "user": "agent", "password": token}
ENDLESS = "SELECT count(*) FROM generate_series(1, 100000000000)"

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

# More in one pipeline than fits into any buffer, and a refusal in the middle of another one.
with psycopg.connect(dbname="crm", autocommit=True, **server) as connection:
    with connection.pipeline(), connection.cursor() as cursor:
        cursors = [connection.execute("SELECT id, name FROM customers WHERE id <= %s", (n,)) for n in range(1500)]
        assert [len(one.fetchall()) for one in cursors[:5]] == [0, 0, 1, 1, 2]
    assert len(cursors[-1].fetchall()) == 50
    try:
        with connection.pipeline():
            first = connection.execute("SELECT 1")
            connection.execute("SELECT secret FROM customers")
            connection.execute("SELECT 2")
        raise SystemExit("a refusal in a pipeline was not told")
    except psycopg.errors.InsufficientPrivilege:
        pass
    assert connection.execute("SELECT 3").fetchone() == (3,)

    # What goes wrong in the middle of a copy leaves nothing behind.
    try:
        with connection.cursor().copy("COPY orders (customer, total) FROM STDIN") as copy:
            copy.write_row((1, 1))
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    with connection.cursor().copy("COPY orders (customer) FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(["int4"])
        for n in range(10):
            copy.write_row((n,))
    assert connection.execute("SELECT count(*) FROM orders").fetchone() == (10,)
    with connection.cursor().copy("COPY (SELECT customer FROM orders) TO STDOUT (FORMAT BINARY)") as copy:
        copy.set_types(["int4"])
        assert [row for row, in copy.rows()] == list(range(10))
    connection.execute("DELETE FROM orders")


# Both versions of the protocol, and what cancels a statement in each: the key is longer in the newer one.
for version, spoken in [("3.0", 30000), ("3.2", 30002), ("latest", 30002)]:
    with psycopg.connect(dbname="crm", max_protocol_version=version, **server) as connection:
        assert psycopg.pq.version() >= 180000 and connection.pgconn.full_protocol_version == spoken, version

        def cancel():
            time.sleep(0.5)
            connection.cancel_safe(timeout=20)

        canceller = threading.Thread(target=cancel)
        canceller.start()
        try:
            connection.execute(ENDLESS)
            raise SystemExit("a statement was not cancelled")
        except psycopg.errors.QueryCanceled:
            pass
        canceller.join()
        connection.rollback()
        assert connection.execute("SELECT 1").fetchone() == (1,)


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
    try:
        await connection.fetch(ENDLESS, timeout=0.5)
        raise SystemExit("a statement was not cancelled")
    except TimeoutError:
        pass
    assert await connection.fetchval("SELECT 1") == 1
    await connection.execute("DELETE FROM orders")
    await connection.close()
    async with asyncpg.create_pool(database="crm", min_size=2, max_size=4, **server) as pool:
        counts = await asyncio.gather(*[pool.fetchval("SELECT count(*) FROM customers") for _ in range(20)])
        assert set(counts) == {50}


asyncio.run(main())
print("done")
