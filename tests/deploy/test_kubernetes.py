"""deploy/kubernetes: valid for the API, and in agreement with the daemon that it runs."""

import shutil
import subprocess
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from daemon import __version__
from daemon.app.running import STOP_S
from daemon.settings import Settings
from tests.deploy.manifests import DEPLOY, Document, documents, is_understood, loaded

FOLDER: Final = DEPLOY / "kubernetes"
OVERLAY: Final = DEPLOY / "kubernetes-overlay"
VERSIONS: Final = ("1.31", "1.37")
KUSTOMIZATION: Final = documents((FOLDER / "kustomization.yaml").read_text("utf-8"))[0]
EXAMPLES: Final = documents((FOLDER / "secrets.example.yaml").read_text("utf-8"))
RESOURCES: Final = [
    document
    for name in KUSTOMIZATION["resources"]
    for document in documents((FOLDER / name).read_text("utf-8"))
]


def resource(kind: str) -> Document:
    """The one resource of a kind."""
    (found,) = (document for document in RESOURCES if document["kind"] == kind)
    return found


POD: Final = resource("Deployment")["spec"]["template"]
(MIGRATE,) = POD["spec"]["initContainers"]
(DAEMON,) = POD["spec"]["containers"]


def environment(container: Document) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container["env"]}


def secrets_of(container: Document) -> dict[str, str]:
    """What lies in the folder that STOCKRELAY_SECRETS_DIR names, filled with the examples."""
    path = environment(container)["STOCKRELAY_SECRETS_DIR"]
    (mount,) = (mount for mount in container["volumeMounts"] if mount["mountPath"] == path)
    (volume,) = (volume for volume in POD["spec"]["volumes"] if volume["name"] == mount["name"])
    names = [source["secret"]["name"] for source in volume["projected"]["sources"]]
    by_name = {secret["metadata"]["name"]: secret["stringData"] for secret in EXAMPLES}
    return {key: value for name in names for key, value in by_name[name].items()}


def settings_of(container: Document, folder: Path) -> Settings:
    return loaded(
        FOLDER / "config.toml", secrets_of(container), environment(container), folder / container["name"]
    )


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "document",
    [*RESOURCES, *EXAMPLES],
    ids=lambda d: f"{d['kind']}-{d['metadata']['name']}",
)
def test_every_manifest_is_valid(document: Document, version: str) -> None:
    assert kubernetes_validate.validate(document, version, strict=True) == version


@pytest.mark.parametrize("version", VERSIONS)
def test_what_kustomize_makes_of_them_is_valid(version: str) -> None:
    rendered = documents(kustomized(FOLDER))
    assert {d["kind"] for d in rendered} == {d["kind"] for d in RESOURCES} | {"ConfigMap"}
    for document in rendered:
        assert kubernetes_validate.validate(document, version, strict=True) == version


def test_kustomize_puts_the_image_and_the_hashed_configuration_in() -> None:
    rendered = {document["kind"]: document for document in documents(kustomized(FOLDER))}
    spec = rendered["Deployment"]["spec"]["template"]["spec"]
    configured = KUSTOMIZATION["images"][0]
    images = {container["image"] for container in (*spec["initContainers"], *spec["containers"])}
    assert images == {f"{configured['newName']}:{configured['newTag']}"}
    (config,) = (volume["configMap"]["name"] for volume in spec["volumes"] if "configMap" in volume)
    assert config == rendered["ConfigMap"]["metadata"]["name"] != "stockrelay"
    assert rendered["ConfigMap"]["data"]["config.toml"] == (FOLDER / "config.toml").read_text("utf-8")


def kustomized(folder: Path) -> str:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl on this machine: what kustomize makes of the manifests is not looked at")
    command = [kubectl, "kustomize", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.parametrize("version", VERSIONS)
def test_an_overlay_with_its_components_is_valid(version: str, tmp_path: Path) -> None:
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    overlay = tmp_path / "deploy" / OVERLAY.name / "kustomization.yaml"
    written = overlay.read_text("utf-8")
    # With those that it names in a comment.
    overlay.write_text(written.replace("# - ../", "- ../"), "utf-8")
    rendered = documents(kustomized(overlay.parent))
    for document in rendered:
        if document["kind"] != "PodMonitor":
            assert kubernetes_validate.validate(document, version, strict=True) == version
    found = {document["kind"]: document for document in rendered}
    assert found["Deployment"]["spec"]["replicas"] == 1
    pod = found["Deployment"]["spec"]["template"]
    assert "annotations" not in pod["metadata"]
    (page,) = found["Service"]["spec"]["ports"]
    ports = pod["spec"]["containers"][0]["ports"]
    assert page["targetPort"] in {port["name"] for port in ports}
    assert found["PodMonitor"]["spec"]["podMetricsEndpoints"][0]["port"] == page["targetPort"]
    for selecting in (
        found["Service"]["spec"]["selector"],
        found["PodMonitor"]["spec"]["selector"]["matchLabels"],
    ):
        assert selecting.items() <= pod["metadata"]["labels"].items()
    sources = {source["secret"]["name"] for source in volume(pod, "secrets")["projected"]["sources"]}
    assert sources == {"stockrelay-database", "stockrelay-marketplaces", "stockrelay-page"}
    callers = [rule["from"] for rule in found["NetworkPolicy"]["spec"]["ingress"]]
    assert len(callers) == 2
    assert found["ConfigMap"]["data"]["config.toml"] == (OVERLAY / "config.toml").read_text("utf-8")


def test_settings_of_the_page_and_of_the_overlay_load(tmp_path: Path) -> None:
    component = documents((FOLDER / "components" / "page" / "kustomization.yaml").read_text("utf-8"))[0]
    (added,) = (
        operation["value"]
        for patch in component["patches"]
        for operation in yaml.safe_load(patch["patch"])
        if operation["path"].endswith("/env/-")
    )
    variables = environment(DAEMON) | {added["name"]: added["value"]}
    settings = loaded(OVERLAY / "config.toml", secrets_of(DAEMON), variables, tmp_path / "secrets")
    assert list(settings.ops.allowed_hosts) == ["stockrelay.example.com"]
    assert list(settings.enabled_channels()) == ["sekorm"]


def volume(pod: Document, name: str) -> Document:
    (found,) = (one for one in pod["spec"]["volumes"] if one["name"] == name)
    return dict(found)


def test_every_file_is_used() -> None:
    generated = {name for generator in KUSTOMIZATION["configMapGenerator"] for name in generator["files"]}
    apart = {"kustomization.yaml", "secrets.example.yaml"}
    files = {file.name for file in FOLDER.iterdir() if file.is_file()}
    assert files == {*KUSTOMIZATION["resources"], *generated, *apart}


def test_secrets_are_placeholders_and_never_applied_with_the_rest() -> None:
    values = [value for secret in EXAMPLES for value in secret["stringData"].values()]
    assert len(values) > 5
    assert all("CHANGE-ME" in value or value == "[]" for value in values)
    assert "Secret" not in {document["kind"] for document in RESOURCES}


def test_image_is_of_this_version() -> None:
    (image,) = KUSTOMIZATION["images"]
    assert image["newTag"] == __version__
    assert {MIGRATE["image"], DAEMON["image"]} == {image["name"]}


@pytest.mark.parametrize("container", [MIGRATE, DAEMON], ids=lambda c: str(c["name"]))
def test_settings_and_command_are_the_programs(container: Document, tmp_path: Path) -> None:
    settings = settings_of(container, tmp_path)
    assert len(settings.enabled_channels()) == 2
    assert is_understood(container["args"])
    config = next(m for m in container["volumeMounts"] if m["name"] == "config")
    assert environment(container)["STOCKRELAY_CONFIG"] == f"{config['mountPath']}/config.toml"


def test_the_daemon_has_another_role_than_the_migration_which_grants_it_its_rights(tmp_path: Path) -> None:
    owner, daemon = (
        urlsplit(settings_of(container, tmp_path).database.dsn.get_secret_value()).username
        for container in (MIGRATE, DAEMON)
    )
    assert MIGRATE["args"] == ["migrate", "--grant-to", daemon]
    assert owner != daemon


def test_containers_may_do_nothing_that_they_do_not_need() -> None:
    pod = POD["spec"]["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert f"USER {pod['runAsUser']}:{pod['runAsGroup']}" in (DEPLOY.parent / "Dockerfile").read_text("utf-8")
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert POD["spec"]["automountServiceAccountToken"] is False
    for container in (MIGRATE, DAEMON):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert all(mount["readOnly"] is True for mount in container["volumeMounts"])
        assert container["resources"]["limits"].keys() == {"memory"}
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostPath"} & {*POD["spec"]}


def test_stopping_is_not_cut_short_and_an_update_keeps_an_owner(tmp_path: Path) -> None:
    run = settings_of(DAEMON, tmp_path).run
    deployment = resource("Deployment")["spec"]
    assert POD["spec"]["terminationGracePeriodSeconds"] >= run.grace_s + 2 * STOP_S
    assert deployment["minReadySeconds"] >= run.lease_s
    assert deployment["replicas"] == 2
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_everything_selects_the_daemons_pods() -> None:
    labels = POD["metadata"]["labels"]
    (spread,) = POD["spec"]["topologySpreadConstraints"]
    selectors: list[Any] = [
        resource("Deployment")["spec"]["selector"],
        resource("PodDisruptionBudget")["spec"]["selector"],
        resource("NetworkPolicy")["spec"]["podSelector"],
        spread["labelSelector"],
    ]
    assert all(selector == {"matchLabels": labels} for selector in selectors)


def test_a_database_that_is_down_restarts_nothing() -> None:
    assert DAEMON["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert DAEMON["startupProbe"]["httpGet"]["path"] == "/livez"
    assert DAEMON["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_the_network_lets_only_ops_in_and_only_what_is_needed_out(tmp_path: Path) -> None:
    policy = resource("NetworkPolicy")["spec"]
    (port,) = DAEMON["ports"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    (way_in,) = policy["ingress"]
    ops = settings_of(DAEMON, tmp_path / "one").ops
    assert (ops.enabled, ops.host, ops.port) == (True, "0.0.0.0", port["containerPort"])
    assert {probe["httpGet"]["port"] for name, probe in DAEMON.items() if "Probe" in name} == {port["name"]}
    assert [p["port"] for p in way_in["ports"]] == [port["containerPort"]]
    assert POD["metadata"]["annotations"]["prometheus.io/port"] == str(port["containerPort"])
    dsn = urlsplit(settings_of(DAEMON, tmp_path).database.dsn.get_secret_value())
    out = [p["port"] for rule in policy["egress"] for p in rule["ports"]]
    assert out == [53, 53, dsn.port, 443]
    assert all(rule["to"] for rule in policy["egress"])
