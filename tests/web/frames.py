"""Sends HTTP/2 as nobody should write it, and tells what became of it. The frames and the compression of headers
are those of other people's libraries (hyperframe, hpack), which write whatever they are given.

Reads a plan from standard input, {"port": N, "cases": {NAME: [STEP, …]}}, and writes {NAME: OUTCOME}. A step is
  ["headers", [[NAME, VALUE], …], END]    the header block of stream 1 (or of the next one, after "next")
  ["block", [[NAME, VALUE], …], N]        the same without its end, with N further pieces that do not end it either
  ["large", [[NAME, VALUE], …]]           a whole request whose header block takes several frames
  ["data", TEXT, END]                     a piece of the body
  ["reset"]                               the request is taken back
  ["next"]                                go on with another stream
An outcome is {"status": N or null, "reset": CODE or null, "goaway": CODE or null, "closed": BOOL}: of the last stream,
and of the connection.
"""

import json
import socket
import sys

import hpack
import hyperframe.frame as frame

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PATIENCE = 20


def block(fields, encoder):
    # Nothing is put into the table: each case stands for itself.
    pairs = [hpack.NeverIndexedHeaderTuple(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
    return encoder.encode(pairs, huffman=False)


class Connection:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.stream = 1
        self.outcome = {"status": None, "reset": None, "goaway": None, "closed": False}
        self.socket.sendall(PREFACE + frame.SettingsFrame(0).serialize())

    def send(self, *frames):
        try:
            self.socket.sendall(b"".join(one.serialize() for one in frames))
        except OSError:
            self.outcome["closed"] = True

    def step(self, kind, *rest):
        if kind == "headers":
            fields, end = rest
            one = frame.HeadersFrame(self.stream, block(fields, self.encoder), flags=["END_HEADERS"])
            if end:
                one.flags.add("END_STREAM")
            self.send(one)
        elif kind == "block":
            fields, more = rest
            self.send(frame.HeadersFrame(self.stream, block(fields, self.encoder)))
            for _ in range(more):
                self.send(frame.ContinuationFrame(self.stream, block([["x-more", "y" * 1000]], self.encoder)))
        elif kind == "large":
            whole = block(rest[0], self.encoder)
            pieces = [whole[at : at + 16000] for at in range(0, len(whole), 16000)]
            frames = [frame.HeadersFrame(self.stream, pieces[0], flags=["END_STREAM"])]
            frames += [frame.ContinuationFrame(self.stream, piece) for piece in pieces[1:]]
            frames[-1].flags.add("END_HEADERS")
            self.send(*frames)
        elif kind == "data":
            text, end = rest
            self.send(frame.DataFrame(self.stream, text.encode(), flags=["END_STREAM"] if end else []))
        elif kind == "reset":
            self.send(frame.RstStreamFrame(self.stream, error_code=8))
        elif kind == "next":
            self.stream += 2

    def exactly(self, length):
        got = b""
        while len(got) < length:
            piece = self.socket.recv(length - len(got))
            if not piece:
                raise EOFError
            got += piece
        return got

    def listen(self):
        """Reads until the last stream or the connection is over."""
        try:
            while True:
                one, length = frame.Frame.parse_frame_header(memoryview(self.exactly(9)))
                one.parse_body(memoryview(self.exactly(length)))
                if isinstance(one, frame.SettingsFrame) and "ACK" not in one.flags:
                    self.send(frame.SettingsFrame(0, flags=["ACK"]))
                elif isinstance(one, frame.GoAwayFrame):
                    self.outcome["goaway"] = one.error_code
                elif isinstance(one, frame.HeadersFrame):
                    fields = dict(self.decoder.decode(one.data))
                    if one.stream_id == self.stream:
                        self.outcome["status"] = int(fields[":status"])
                elif isinstance(one, frame.RstStreamFrame) and one.stream_id == self.stream:
                    self.outcome["reset"] = one.error_code
                    return
                if one.stream_id == self.stream and "END_STREAM" in one.flags:
                    return
        except (EOFError, ConnectionError):
            self.outcome["closed"] = True
        except TimeoutError:
            pass


def run(port, steps):
    connection = Connection(port)
    for step in steps:
        connection.step(*step)
    connection.listen()
    connection.socket.close()
    return connection.outcome


plan = json.load(sys.stdin)
json.dump({name: run(plan["port"], steps) for name, steps in plan["cases"].items()}, sys.stdout)
