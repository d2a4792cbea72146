# SPDX-License-Identifier: Apache-2.0
"""Every object that the API shows, in every state, by the typed models of the official Python SDK:
all that a model requires is there, of its type, and (in the newest) nothing is there that it does
not know."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

import openai  # noqa: E402  (after the path)
from openai.types import Batch, FileDeleted, FileObject, Model  # noqa: E402
from openai.types.uploads import UploadPart  # noqa: E402
import objects  # noqa: E402
from harness import E2E  # noqa: E402

NEWEST = int(openai.__version__.split(".", maxsplit=1)[0]) >= 2
MODELS = {"batch": Batch, "file": FileObject, "upload": openai.types.Upload,
          "upload.part": UploadPart, "model": Model, "deleted": FileDeleted}


def unknown(value, where):
    """Members at any depth that the model does not declare."""
    found = [f"{where}.{k}" for k in (value.model_extra or {})]
    for name in type(value).model_fields:
        inner = getattr(value, name)
        for one in inner if isinstance(inner, list) else [inner]:
            if isinstance(one, openai.BaseModel):
                found += unknown(one, f"{where}.{name}")
    return found


class TypedModels(E2E):
    cost = 4

    def test_every_object_in_every_state_is_what_the_typed_models_say(self):
        seen = objects.collect(self)
        for kind, model in MODELS.items():
            self.assertTrue(seen[kind], f"no {kind} was collected")
            for value in seen[kind]:
                parsed = model.model_validate(value, strict=True)
                if NEWEST:
                    self.assertEqual(unknown(parsed, kind), [], value)
                # What comes out is what came in: no field was taken for another type.
                self.assertEqual({k: v for k, v in parsed.model_dump(mode="json").items()
                                  if k in value}, value)
        self.assertEqual({b["status"] for b in seen["batch"]} - {"finalizing"},
                         {"validating", "in_progress", "completed", "failed", "expired",
                          "cancelling", "cancelled"})
