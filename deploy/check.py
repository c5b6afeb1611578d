"""Renders the chart with Helm's own library, and holds what comes out against Kubernetes' schemas. Needs no cluster."""

from pathlib import Path

import helm_python
import kubernetes_validate
import yaml

CHART = Path(__file__).parent / "helm" / "longlive"
LEAST = {"images": {name: f"registry.example/longlive@sha256:{'0' * 64}" for name in ("api", "worker")}}
MOST = {
    **LEAST,
    "settings": {"LONGLIVE_KEEP_DAYS": 30},
    "imagePullSecrets": [{"name": "registry"}],
    "publicUrl": "https://video.example",
    "trustedProxies": "10.0.0.0/8",
    "serviceAccountAnnotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/longlive"},
    "api": {"ingress": {"enabled": True, "host": "video.example", "className": "nginx", "tlsSecret": "tls"}},
    "worker": {"nodeSelector": {"karpenter.sh/nodepool": "gpu"}},
}
WITHOUT_KEDA = {**LEAST, "worker": {"keda": {"enabled": False}, "min": 1}}
# What other projects define has schemas of its own, which are not looked at here.
FOREIGN = {"keda.sh/v1alpha1"}


def rendered(values):
    chart = helm_python.Chart.load(str(CHART))
    texts = chart.render(values, name="video", namespace="video").values()
    return [found for text in texts for found in yaml.safe_load_all(text) if found]


def check(values):
    problems = helm_python.lint(str(CHART), values, strict=True)["errors"]
    assert not problems, problems
    resources = rendered(values)
    for resource in resources:
        if resource["apiVersion"] not in FOREIGN:
            kubernetes_validate.validate(resource, "1.37", strict=True)
    return {(resource["kind"], resource["metadata"]["name"]): resource for resource in resources}


def container(resources, role):
    return resources["Deployment", f"video-{role}"]["spec"]["template"]["spec"]["containers"][0]


def main():
    check(MOST)
    assert "replicas" in check(WITHOUT_KEDA)["Deployment", "video-worker"]["spec"]
    resources = check(LEAST)
    scaled = resources["ScaledObject", "video-worker"]["spec"]
    assert scaled["minReplicaCount"] == 0 and "longlive_wanted_workers" in scaled["triggers"][0]["metadata"]["query"]
    assert "replicas" not in resources["Deployment", "video-worker"]["spec"], "KEDA's to say"
    assert container(resources, "worker")["resources"]["limits"]["nvidia.com/gpu"] == 1
    for role in ("api", "worker"):
        spec = container(resources, role)
        settings = {setting["name"]: setting.get("value") for setting in spec["env"]}
        assert settings["LONGLIVE_ROLE"] == role
        grace = resources["Deployment", f"video-{role}"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert int(settings["LONGLIVE_SHUTDOWN_SECONDS"]) < grace
        assert "memory" in spec["resources"]["limits"] and spec["securityContext"]["readOnlyRootFilesystem"]
        assert {"/cache", "/tmp"} <= {mount["mountPath"] for mount in spec["volumeMounts"]}
    try:
        rendered({})
    except helm_python.HelmError:
        pass
    else:
        raise AssertionError("rendered without images")
    print(f"the chart renders with Helm {helm_python.helm_sdk_version()}, and is what Kubernetes 1.37 takes")


if __name__ == "__main__":
    main()
