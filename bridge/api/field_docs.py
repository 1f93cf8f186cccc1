"""Docstrings of the models' fields for the OpenAPI document.

pydantic can read them when a class is created (``use_attribute_docstrings``), but that takes a tenth of the
start: it tokenizes the source of each class. Here each module is parsed once, when the document is built.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue


class DocumentedSchema(GenerateJsonSchema):
    """Generates JSON schemas in which the docstring of a field is its description if it has no other."""

    def model_schema(self, schema: Any) -> JsonSchemaValue:
        """Generate the schema of a model."""
        made = super().model_schema(schema)
        model: type[BaseModel] = schema["cls"]
        docs = field_docs(model)
        for name, field in model.model_fields.items():
            part = made.get("properties", {}).get(field.alias or name)
            if part is not None and name in docs:
                part.setdefault("description", docs[name])
        return made


def field_docs(model: type[BaseModel]) -> Mapping[str, str]:
    """Return the docstrings of a model's fields, inherited ones included."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            found |= docs_of_module(base.__module__).get(base.__qualname__, {})
    return found


@functools.cache
def docs_of_module(name: str) -> Mapping[str, Mapping[str, str]]:
    """Return the docstrings of the attributes of all classes of a module, by class and attribute."""
    tree = ast.parse(inspect.getsource(sys.modules[name]))
    return {each.name: _docs_of_class(each) for each in tree.body if isinstance(each, ast.ClassDef)}


def _docs_of_class(node: ast.ClassDef) -> Mapping[str, str]:
    docs = {}
    for field, text in zip(node.body, node.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        ):
            docs[field.target.id] = inspect.cleandoc(text.value.value)
    return docs
