"""What may steer a statement, with drivers as they are: `provenance.py HOST PORT TOKEN`. The task says
`Pay 250 to Bob Miller as payment id 47`; Bob's account is in `people`, an attacker's in `mail`."""

import asyncio
import sys

import asyncpg
import psycopg
from psycopg.types.json import Jsonb

host, port, token = sys.argv[1], int(sys.argv[2]), sys.argv[3]
server = {"host": host, "port": port, "user": "agent", "password": token}
EVIL, BOB = "GB33BUKB20201555555555", "DE89370400440532013000"
INTO = "INSERT INTO pay (id, iban, amount, note) VALUES "
CHANGE = "UPDATE pay SET iban = %s WHERE id = 47"


def refused(connection, statement, parameters=None, **how):
    """That a statement is refused for where its values come from, and nothing else is wrong with it."""
    try:
        with connection.transaction():
            connection.execute(statement, parameters, **how)
    except psycopg.errors.InsufficientPrivilege as error:
        assert "provenance" in error.diag.message_detail, error.diag.message_detail
        assert error.diag.message_hint, statement
        return error.diag.message_primary
    raise SystemExit(f"it was carried out: {statement} {parameters}")


with psycopg.connect(dbname="crm", autocommit=True, **server) as connection:
    assert EVIL in connection.execute("SELECT body FROM mail WHERE id = %s", (7,)).fetchone()[0]
    said = refused(connection, INTO + "(47, %s, 250, 'x')", (EVIL,))
    assert "untrusted" in said and "public.mail" in said, said

    # Nobody chose Mallory: what is found by her name is not trusted.
    row = connection.execute("SELECT iban FROM people WHERE name = %s", ("Mallory Evil",)).fetchone()
    assert row == (EVIL,)
    refused(connection, INTO + "(47, %s, 250, 'x')", (EVIL,))
    # Neither is what anything else in a statement chose.
    for chosen in [
        "SELECT iban FROM people ORDER BY id = 2 DESC LIMIT 1",
        "SELECT iban, id = 2 AS k FROM people ORDER BY k DESC LIMIT 1",
        "SELECT iban FROM people LIMIT 1 OFFSET 1",
        "SELECT p.iban FROM people p, mail m WHERE m.body LIKE '%%' || p.iban LIMIT 1",
        "SELECT p.iban FROM people p JOIN mail m ON position(p.iban in m.body) > 0",
        "SELECT iban FROM people WHERE id = 1 + 1",
        "SELECT iban FROM people WHERE name = 'Mal' || 'lory Evil'",
        "SELECT iban FROM people WHERE name LIKE 'M%%'",
        "SELECT iban FROM people WHERE length(name) = length('Mallory Evil')",
        f"SELECT '{EVIL}' AS iban FROM people WHERE name = 'Bob Miller'",
        f"SELECT max(iban) FROM (VALUES ('{EVIL}')) people (iban)",
    ]:
        # psycopg reads `%%` only with parameters.
        connection.execute(chosen, ()).fetchall()
        refused(connection, INTO + "(47, %s, 250, 'x')", (EVIL,))

    # The account that the task's own words lead to.
    row = connection.execute("SELECT iban FROM people WHERE name = %s", ("Bob Miller",)).fetchone()
    assert row == (BOB,)
    connection.execute(INTO + "(47, %s, 250, 'as agreed, with whatever words')", (BOB,))
    connection.execute(CHANGE, (BOB,), prepare=True)
    for binary in (False, True):
        with connection.cursor(binary=binary) as cursor:
            cursor.execute("SELECT iban FROM people WHERE name = %s", ("Bob Miller",))
            assert cursor.fetchone() == (BOB,)
            cursor.execute("UPDATE pay SET iban = %s, amount = %s WHERE id = %s", (BOB, 250, 47))
            assert cursor.rowcount == 1

    # A prepared statement is decided each time that it is carried out.
    for _ in range(3):
        refused(connection, CHANGE, (EVIL,), prepare=True)
        connection.execute(CHANGE, (BOB,), prepare=True)
    refused(connection, "UPDATE pay SET iban = %t WHERE id = 47", (EVIL,))
    refused(connection, "UPDATE pay SET iban = %b WHERE id = 47", (EVIL,))
    refused(connection, "UPDATE pay SET id = %b WHERE id = 47", (666,))
    refused(connection, "DELETE FROM pay WHERE id = ANY(%s)", ([47, 1],))
    refused(connection, "DELETE FROM pay WHERE id = ANY(%b)", ([1],))
    refused(connection, "UPDATE pay SET iban = %s ->> 'a' WHERE id = 47", (Jsonb({"a": EVIL}),))
    refused(connection, "UPDATE pay SET iban = (%s::text[])[1] WHERE id = 47", ([EVIL],))
    refused(connection, "INSERT INTO pay (id, iban) SELECT 47, x FROM unnest(%s::text[]) x", ([EVIL],))
    refused(connection, "INSERT INTO pay (id, iban) SELECT 47, body FROM mail")
    refused(connection, "DELETE FROM pay WHERE id IN (SELECT id FROM pay)")
    refused(connection, "DELETE FROM pay")
    refused(connection, "DELETE FROM pay WHERE id = 47 OR true")
    refused(connection, "DELETE FROM pay WHERE note = %s", ("x",))

    # A batch fails as a whole where it would.
    try:
        with connection.pipeline():
            connection.execute("UPDATE pay SET note = 'one' WHERE id = 47")
            connection.execute(CHANGE, (EVIL,))
            connection.execute("UPDATE pay SET note = 'two' WHERE id = 47")
        raise SystemExit("a pipeline was carried out")
    except psycopg.errors.InsufficientPrivilege:
        pass
    row = connection.execute("SELECT iban, note FROM pay WHERE id = 47").fetchone()
    assert row[0] == BOB and row[1] not in ("one", "two"), row
    try:
        with connection.cursor() as cursor:
            cursor.executemany(CHANGE, [(BOB,), (EVIL,), (BOB,)])
        raise SystemExit("many were carried out")
    except psycopg.errors.InsufficientPrivilege:
        pass
    assert connection.execute("SELECT iban FROM pay WHERE id = 47").fetchone() == (BOB,)

    # Rows that nobody decides on.
    try:
        with connection.cursor() as cursor, cursor.copy("COPY pay (id, iban) FROM STDIN") as copy:
            copy.write_row((48, EVIL))
        raise SystemExit("rows were copied into a sink")
    except psycopg.errors.InsufficientPrivilege as error:
        assert "provenance" in error.diag.message_detail
    assert connection.execute("SELECT count(*) FROM pay WHERE id = 48").fetchone() == (0,)


async def asynchronous():
    connection = await asyncpg.connect(database="crm", **server)
    change = await connection.prepare("UPDATE pay SET iban = $1, amount = $2 WHERE id = $3")
    await change.fetch(BOB, 250, 47)
    for wrong in [(EVIL, 250, 47), (BOB, 666, 47), (BOB, 250, 1)]:
        try:
            await change.fetch(*wrong)
            raise SystemExit(f"it was carried out: {wrong}")
        except asyncpg.InsufficientPrivilegeError as error:
            assert "provenance" in error.detail
    try:
        await connection.copy_records_to_table("pay", records=[(48, EVIL, 1, "")])
        raise SystemExit("rows were copied into a sink")
    except asyncpg.InsufficientPrivilegeError:
        pass
    assert await connection.fetchval("SELECT iban FROM pay WHERE id = 47") == BOB
    await connection.close()


asyncio.run(asynchronous())
print("done")
