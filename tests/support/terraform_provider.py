"""A Terraform provider whose world is a folder of JSON files, so that it can really drift.

Run by the interpreter of an environment that has the package `tf`. Beside the services' files
the folder may hold `slow` (seconds every read takes) and `broken` (an error every read gives).
"""

from __future__ import annotations

import importlib
import json
import pathlib
import time
from typing import Any


def main() -> None:
    iface: Any = importlib.import_module("tf.iface")
    schema: Any = importlib.import_module("tf.schema")
    types: Any = importlib.import_module("tf.types")
    runner: Any = importlib.import_module("tf.runner")
    attribute = schema.Attribute
    fields = ("name", "replicas", "image", "env", "password")

    class Service(iface.Resource):  # type: ignore[misc]  # not installed beside us
        def __init__(self, provider: Any) -> None:
            self.provider = provider

        @classmethod
        def get_name(cls) -> str:
            return "service"

        @classmethod
        def get_schema(cls) -> Any:
            return schema.Schema(
                version=1,
                attributes=[
                    attribute("id", types.String(), computed=True),
                    attribute("name", types.String(), required=True, requires_replace=True),
                    attribute("replicas", types.Number(), required=True),
                    attribute("image", types.String(), required=True),
                    attribute("env", types.String(), optional=True),
                    attribute("password", types.String(), optional=True, sensitive=True),
                ],
            )

        def file(self, name: str) -> pathlib.Path:
            root: pathlib.Path = self.provider.root
            return root / f"{name}.json"

        def put(self, state: Any) -> Any:
            self.file(state["name"]).write_text(json.dumps({k: state[k] for k in fields}))
            return {**state, "id": state["name"]}

        def create(self, ctx: Any, planned: Any) -> Any:
            return self.put(planned)

        def update(self, ctx: Any, current: Any, planned: Any) -> Any:
            return self.put(planned)

        def delete(self, ctx: Any, current: Any) -> None:
            self.file(current["name"]).unlink(missing_ok=True)

        def read(self, ctx: Any, current: Any) -> Any:
            root: pathlib.Path = self.provider.root
            if (root / "slow").exists():
                time.sleep(float((root / "slow").read_text()))
            if (root / "broken").exists():
                ctx.diagnostics.add_error("reading the service", (root / "broken").read_text())
                return current
            file = self.file(current["name"])
            if not file.exists():
                return None
            return {"id": current["name"], **json.loads(file.read_text())}

    class Demo(iface.Provider):  # type: ignore[misc]  # likewise
        root: pathlib.Path

        def get_model_prefix(self) -> str:
            return "demo_"

        def full_name(self) -> str:
            return "local.test/demo/demo"

        def get_provider_schema(self, diags: Any) -> Any:
            root = attribute("root", types.String(), required=True)
            return schema.Schema(version=1, attributes=[root])

        def validate_config(self, diags: Any, config: Any) -> None:
            pass

        def configure_provider(self, diags: Any, config: Any) -> None:
            self.root = pathlib.Path(config["root"])
            self.root.mkdir(parents=True, exist_ok=True)

        def get_data_sources(self) -> list[Any]:
            return []

        def get_resources(self) -> list[Any]:
            return [Service]

    runner.run_provider(Demo())


if __name__ == "__main__":
    main()
