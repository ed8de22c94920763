"""The part of KubeRay's RayService (ray.io/v1) that is written here, and of the pods in it, by the types of their APIs.

No package of a registry that Python clients reach has the whole definition, which is a megabyte, most of it pods.
"""

STRING = {"type": "string"}
COUNT = {"type": "integer", "minimum": 0}
PARAMS = {"type": "object", "additionalProperties": STRING}
QUANTITIES = {
    "type": "object",
    "additionalProperties": {**STRING, "pattern": r"^\d+(\.\d+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"},
}
NAME = {**STRING, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}


def _object(required: list[str], **properties: object) -> dict[str, object]:
    """An object that has these properties, and no others."""
    return {"type": "object", "required": required, "additionalProperties": False, "properties": properties}


CONTAINER = _object(
    ["name", "image"],
    name=NAME,
    image=STRING,
    env={
        "type": "array",
        "items": {
            **_object(
                ["name"],
                name=STRING,
                value=STRING,
                valueFrom=_object(["secretKeyRef"], secretKeyRef=_object(["key"], name=STRING, key=STRING)),
            ),
            "not": {"required": ["value", "valueFrom"]},
        },
    },
    ports={
        "type": "array",
        "items": _object(
            ["containerPort"],
            name={**NAME, "maxLength": 15},
            containerPort={"type": "integer", "minimum": 1, "maximum": 65535},
        ),
    },
    resources=_object([], requests=QUANTITIES, limits=QUANTITIES),
)
TEMPLATE = _object(["spec"], spec=_object(["containers"], containers={"type": "array", "items": CONTAINER}))
GROUP = _object(
    ["groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"],
    groupName=NAME,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    rayStartParams=PARAMS,
    template=TEMPLATE,
)
RAY_SERVICE = _object(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayService"},
    metadata=_object(["name"], name={**NAME, "maxLength": 47}),  # KubeRay adds a name of its own to it
    spec=_object(
        [],
        serveConfigV2=STRING,
        rayClusterConfig=_object(
            ["headGroupSpec"],
            rayVersion=STRING,
            enableInTreeAutoscaling={"type": "boolean"},
            headGroupSpec=_object(["rayStartParams", "template"], rayStartParams=PARAMS, template=TEMPLATE),
            workerGroupSpecs={"type": "array", "items": GROUP},
        ),
    ),
)
