"""What passes of results, with drivers as they are: `contents.py HOST PORT TOKEN CANARY`."""

import asyncio
import sys

import asyncpg
import psycopg

host, port, token, canary = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
server = {"host": host, "port": port, "user": "agent", "password": token}
KEY = "ghp_" + "0123456789abcdefghijABCDEFGHIJ012345"


def clean(value):
    assert KEY not in str(value) and "redacted" in str(value), value
    return value


def withheld(error):
    assert error.sqlstate == "42501", error
    assert "does not pass" in error.diag.message_primary, error
    assert canary not in str(error)


with psycopg.connect(dbname="crm", autocommit=True, **server) as connection:
    # Rows with a credential: taken out, in each way in which values are written, and nothing else changes.
    for binary in (False, True):
        with connection.cursor(binary=binary) as cursor:
            cursor.execute("SELECT id, body, data, raw, list FROM notes WHERE id < 5 ORDER BY id")
            rows = cursor.fetchall()
            assert [row[0] for row in rows] == [1, 2, 3, 4], rows
            assert rows[0][1:] == ("plain", {"a": 1}, b"raw", ["x", "y"]), rows[0]
            assert clean(rows[1][1]).endswith("and the rest"), rows[1]
            assert clean(rows[2][2])["b"] == 2, rows[2]
            assert KEY.encode() not in rows[3][3], rows[3]
            if not binary:
                clean(rows[3][4])
            assert KEY not in str(rows[3]), rows[3]
    # Hidden by the statement, and past it.
    for hidden in ["body || ''", "upper(substr(body, 1, 0)) || body", "to_json(body)", "array[body]"]:
        clean(connection.execute(f"SELECT {hidden} FROM notes WHERE id = 2").fetchone())
    for n in range(8):
        clean(connection.execute("SELECT body FROM notes WHERE id = %s", (2,), prepare=True).fetchone())
    with connection.transaction(), connection.cursor("named") as cursor:
        cursor.execute("SELECT body FROM notes ORDER BY id")
        cursor.itersize = 2
        clean([cursor.fetchone() for _ in range(3)])
    # Copies: text and CSV without it; what cannot be changed does not pass.
    for form in ("", " WITH (FORMAT csv)"):
        with connection.cursor() as cursor:
            with cursor.copy(f"COPY (SELECT id, body FROM notes WHERE id < 3 ORDER BY id) TO STDOUT{form}") as copy:
                lines = b"".join(copy).decode().splitlines()
        assert len(lines) == 2 and lines[0][0] == "1", lines
        clean(lines[1])
    try:
        with connection.cursor() as cursor:
            with cursor.copy("COPY (SELECT body FROM notes WHERE id = 2) TO STDOUT WITH (FORMAT binary)") as copy:
                b"".join(copy)
        raise SystemExit("a binary copy passed")
    except psycopg.Error as error:
        assert error.sqlstate == "42501", error
    # What the database says is looked at as well.
    try:
        connection.execute("SELECT body::int FROM notes WHERE id = 2")
        raise SystemExit("it is no number")
    except psycopg.errors.InvalidTextRepresentation as error:
        clean(error.diag.message_primary)

    # A planted token: the result does not pass, and the session goes on.
    for how in ({}, {"prepare": True}, {"binary": True}):
        try:
            connection.execute("SELECT id, body FROM notes ORDER BY id", **how).fetchall()
            raise SystemExit("a planted token passed")
        except psycopg.errors.InsufficientPrivilege as error:
            withheld(error)
        assert connection.execute("SELECT 7").fetchone() == (7,)
    # In a transaction it is an error like any other: the transaction can only be rolled back.
    connection.autocommit = False
    for parameters in (None, (1,)):
        connection.execute("INSERT INTO orders (customer) VALUES (4242)")
        try:
            connection.execute("SELECT body FROM notes WHERE id > %s" if parameters else "SELECT body FROM notes", parameters)
            raise SystemExit("a planted token passed")
        except psycopg.errors.InsufficientPrivilege as error:
            withheld(error)
        try:
            connection.execute("SELECT 1")
            raise SystemExit("the transaction went on")
        except psycopg.errors.InFailedSqlTransaction:
            pass
        connection.rollback()
        assert connection.execute("SELECT count(*) FROM orders WHERE customer = 4242").fetchone() == (0,)
        connection.rollback()
    connection.autocommit = True
    # In a pipeline what comes behind it is not carried out, and what comes after the batch is.
    for _ in range(3):
        try:
            with connection.pipeline() as pipeline:
                first = connection.execute("SELECT 1")
                connection.execute("SELECT body FROM notes WHERE id > %s", (1,))
                connection.execute("INSERT INTO orders (customer) VALUES (4242)")
                connection.execute("SELECT 2")
                pipeline.sync()
                last = connection.execute("SELECT 3")
            raise SystemExit("a planted token passed")
        except psycopg.errors.InsufficientPrivilege as error:
            withheld(error)
        assert first.fetchone() == (1,)
        assert connection.execute("SELECT 4").fetchone() == (4,)
        assert connection.execute("SELECT count(*) FROM orders WHERE customer = 4242").fetchone() == (0,)
    # Several statements in one text.
    try:
        connection.execute("SELECT 1; SELECT body FROM notes; SELECT 2")
        raise SystemExit("a planted token passed")
    except psycopg.errors.InsufficientPrivilege as error:
        withheld(error)
    assert connection.execute("SELECT 5").fetchone() == (5,)
    # A cursor that comes to it, and a copy.
    try:
        with connection.transaction(), connection.cursor("other") as cursor:
            cursor.execute("SELECT body FROM notes ORDER BY id")
            cursor.fetchmany(4)
            cursor.fetchmany(4)
        raise SystemExit("a planted token passed")
    except psycopg.errors.InsufficientPrivilege as error:
        withheld(error)
    try:
        with connection.cursor() as cursor, cursor.copy("COPY notes (id, body) TO STDOUT") as copy:
            b"".join(copy)
        raise SystemExit("a planted token passed")
    except psycopg.errors.InsufficientPrivilege as error:
        withheld(error)
    assert connection.execute("SELECT 6").fetchone() == (6,)
    # Large results come whole.
    rows = connection.execute("SELECT n, repeat('x', 2000) FROM generate_series(1, 3000) n").fetchall()
    assert len(rows) == 3000 and all(len(row[1]) == 2000 for row in rows)
    row = connection.execute("SELECT repeat('y', 3000000)").fetchone()
    assert len(row[0]) == 3_000_000


async def asynchronous():
    connection = await asyncpg.connect(database="crm", **server)
    clean(await connection.fetchval("SELECT body FROM notes WHERE id = 2"))
    try:
        await connection.fetch("SELECT body FROM notes")
        raise SystemExit("a planted token passed")
    except asyncpg.InsufficientPrivilegeError as error:
        assert canary not in str(error)
    assert await connection.fetchval("SELECT $1::int", 7) == 7
    await connection.close()


asyncio.run(asynchronous())
print("done")
