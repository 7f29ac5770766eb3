"""The JSON schema of a config, which editors use for completion and checks: `python -m lipscale.config.schema`."""

import json

from pydantic.json_schema import GenerateJsonSchema

from lipscale.config.models import Experiment


class _WithoutTitles(GenerateJsonSchema):
    """Pydantic would add the key of each field again as its title."""

    def field_title_should_be_set(self, schema: object) -> bool:
        return False


def schema() -> dict:
    """Every key of a config: description with unit, default, and what is allowed."""
    return {"$schema": GenerateJsonSchema.schema_dialect, **Experiment.model_json_schema(schema_generator=_WithoutTitles)}


if __name__ == "__main__":
    print(json.dumps(schema(), indent=2))
