"""The OpenAPI document as an HTML page: without scripts and without resources of other servers."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from importlib import resources
from typing import Any

_KINDS = {"integer": "integer", "string": "string", "boolean": "true or false"}
_PAGE = resources.files("bridge.api").joinpath("docs.html").read_text(encoding="utf-8")


def page_of(document: Mapping[str, Any]) -> tuple[str, str]:
    """Return the page and its Content-Security-Policy: its own style and nothing else."""
    style = _PAGE.partition("<style>")[2].partition("</style>")[0]
    assert style
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    )
    info = document["info"]
    parts = {
        "TITLE": escape(info["title"]),
        "VERSION": escape(info["version"]),
        "ABOUT": _words(info["description"]),
        "CONTENTS": "\n".join(_contents(document)),
        "OPERATIONS": "\n".join(_operations(document)),
        "SCHEMAS": "\n".join(_schemas(document["components"]["schemas"])),
    }
    html = re.sub(r"\$\{([A-Z]+)\}", lambda found: parts[found[1]], _PAGE)
    return html, policy


def _each(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for tag in document["tags"]:
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if tag["name"] in operation["tags"]:
                    yield path, method.upper(), operation


def _contents(document: Mapping[str, Any]) -> Iterator[str]:
    tag = ""
    for path, method, operation in _each(document):
        if operation["tags"][0] != tag:
            tag = operation["tags"][0]
            yield f"<h3>{escape(tag)}</h3>"
        yield (
            f'<a href="#{operation["operationId"]}"><b class="{method}">{method}</b> <code>{escape(path)}</code>'
            f" <span>{_words(operation['summary'])}</span></a>"
        )


def _operations(document: Mapping[str, Any]) -> Iterator[str]:
    tag = ""
    for path, method, operation in _each(document):
        if operation["tags"][0] != tag:
            tag = operation["tags"][0]
            yield f"<h2>{escape(tag)}</h2>"
        yield f'<section id="{operation["operationId"]}">'
        yield f'<h3><b class="{method}">{method}</b> <code>{escape(path)}</code></h3>'
        yield f"<p>{_words(operation['summary'])}. {_words(operation.get('description', ''))}</p>"
        yield f"<p class=quiet>{_who(operation['security'])}</p>"
        asked = [each for each in operation.get("parameters", ()) if each["in"] == "query"]
        if asked:
            rows = [(each["name"], each["schema"], each.get("description", ""), each["required"]) for each in asked]
            yield _table("Parameters", rows)
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            yield f"<p>Body ({escape(kind)}): {_type(content['schema'])}</p>"
        yield "<table><caption>Answers</caption>"
        for status, response in operation["responses"].items():
            given = [_type(each["schema"]) for each in response.get("content", {}).values()]
            yield f"<tr><th>{status}<td>{' '.join(given)}<td>{_words(response['description'])}"
        yield "</table></section>"


def _who(security: list[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for way in security for name in way))
    if not names:
        return "Needs no credential."
    if "bearer" in names:
        return "Needs a token."
    return f"Needs the credential of {escape(', '.join(names))}."


def _schemas(schemas: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(schemas):
        schema = schemas[name]
        yield f'<section id="schema-{escape(name)}"><h3>{escape(name)}</h3>'
        yield f"<p>{_words(schema.get('description', ''))}</p>"
        if "properties" in schema:
            required = schema.get("required", ())
            parts = schema["properties"].items()
            yield _table("", [(key, part, part.get("description", ""), key in required) for key, part in parts])
        elif any("title" in shape for shape in schema.get("oneOf", ())):
            yield from map(_action, schema["oneOf"])
        else:
            yield f"<p>{_type(schema)}</p>"
        yield "</section>"


def _action(shape: Mapping[str, Any]) -> str:
    """Return one kind of action: the keys beside its type, and its options."""
    rows = []
    for key, part in shape["properties"].items():
        within = [each for each in (part, *part.get("anyOf", ())) if "properties" in each]
        if key in ("type", "id", "next_id", "tm_execute", "name", "comment", "comments"):
            continue
        if not within:
            rows.append((key, part, part.get("description", ""), key in shape["required"]))
        for inner in within:
            required = inner.get("required", ())
            rows += [
                (f"{key}.{name}", each, each.get("description", ""), name in required)
                for name, each in inner["properties"].items()
            ]
    title = f"<h4><code>{escape(shape['title'])}</code></h4>"
    return title + (_table("", rows) if rows else "<p class=quiet>No options.</p>")


def _table(caption: str, rows: list[tuple[str, Mapping[str, Any], str, bool]]) -> str:
    lines = [f"<table><caption>{escape(caption)}</caption>" if caption else "<table>"]
    for name, schema, text, required in rows:
        default = schema.get("default")
        more = " <i>required</i>" if required else ""
        if default not in (None, "", [], {}):
            more = f" <i>default {escape(json.dumps(default))}</i>"
        lines.append(f"<tr><th><code>{escape(name)}</code>{more}<td>{_type(schema)}<td>{_words(text)}")
    return "\n".join([*lines, "</table>"])


def _type(schema: Any) -> str:
    """Return a short description of the values that a schema allows."""
    if not isinstance(schema, Mapping) or not schema:
        return "anything"
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#schema-{escape(name)}">{escape(name)}</a>'
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(map(_type, schema[key])))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " ".join(f"<code>{escape(json.dumps(each))}</code>" for each in values)
    kind = schema.get("type", "anything")
    if isinstance(kind, list):
        return escape(" or ".join(kind))
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    limits = [
        f"{word} {schema[key]}"
        for key, word in (("minimum", "from"), ("maximum", "to"), ("minLength", "at least"), ("maxLength", "at most"))
        if key in schema
    ]
    return escape(" ".join([_KINDS.get(str(kind), str(kind)), *limits]))


def _words(text: str) -> str:
    """Return the subset of Markdown that the document uses as HTML: code, lists."""
    shown = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
    lines = [f"<li>{line[2:]}" if line.startswith("- ") else line for line in shown.splitlines()]
    return "\n".join(["<ul>", *lines, "</ul>"]) if any(line.startswith("<li>") for line in lines) else "\n".join(lines)
