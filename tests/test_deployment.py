"""docker-compose.yml and cluster.yaml, as far as they can be checked without a container or a second machine."""

import copy
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml  # type: ignore[import-untyped]  # it carries no type information
from ray.autoscaler._private.util import prepare_config, validate_config

import morphml_ray
from morphml_ray.config import BackendUrl, StorageConfig
from morphml_ray.config.schemes import Kind
from morphml_ray.config.settings import variable_of
from morphml_ray.serde.signing_key import ENVIRONMENT_VARIABLE, SigningKey

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = ROOT / "docker-compose.yml"
DEPLOYMENT = (ROOT / "docs/deployment.md").read_text(encoding="utf-8")
SERVERS = {"postgres", "redis", "minio"}
RAY_NODES = {"ray-head", "ray-worker"}
# Of https://docs.docker.com/reference/compose-file/interpolation what we use: a variable, a default, a requirement.
VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?:(?P<sign>:[-?])(?P<rest>[^{}]*))?\})")
SETTINGS = {variable_of(name, field): name for name, field in StorageConfig.model_fields.items()}
URLS = {"MORPHML_DATABASE_URL": "database", "MORPHML_CACHE_URL": "cache", "MORPHML_ARTIFACTS_URL": "artifacts"}


def read_variables(text: str) -> dict[str, str]:
    """Read the lines of an env file."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: value.strip("'") for name, _, value in (line.partition("=") for line in lines)}


def substitute(value: Any, variables: Mapping[str, str]) -> Any:
    """Put variables into a part of the compose file, as Compose does; one that is not there is a KeyError."""
    if isinstance(value, dict):
        return {key: substitute(part, variables) for key, part in value.items()}
    if isinstance(value, list):
        return [substitute(part, variables) for part in value]
    return VARIABLE.sub(lambda match: value_of(match, variables), value) if isinstance(value, str) else value


def value_of(match: re.Match[str], variables: Mapping[str, str]) -> str:
    if match["dollar"]:
        return "$"
    value = variables.get(match["name"], "")
    if not value and match["sign"] == ":-":
        return match["rest"]
    if not value:
        raise KeyError(match["name"])
    return value


def texts_of(value: Any) -> Iterator[str]:
    """All texts of a part of the compose file."""
    if isinstance(value, str):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts_of(part)


def check_schema(file: Path) -> "subprocess.CompletedProcess[str]":
    """Check a file by the schema of the Compose specification, which the wheel of check-jsonschema holds."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def written() -> Any:
    """The compose file as it is written."""
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def variables() -> dict[str, str]:
    """What .env.example states."""
    return read_variables((ROOT / ".env.example").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def compose(written: Any, variables: dict[str, str]) -> Any:
    """The compose file with the variables of .env.example put in."""
    return substitute(written, variables)


def test_compose_file_keeps_to_the_specification() -> None:
    answer = check_schema(COMPOSE)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_specification_refuses_what_is_wrong(written: Any, tmp_path: Path) -> None:
    wrong = copy.deepcopy(written)
    wrong["services"]["redis"]["healtcheck"] = {}
    file = tmp_path / "docker-compose.yml"
    file.write_text(yaml.safe_dump(wrong), encoding="utf-8")
    assert check_schema(file).returncode == 1


def test_it_has_the_servers_and_a_ray_cluster(compose: Any) -> None:
    assert set(compose["services"]) == SERVERS | RAY_NODES


def test_every_variable_is_in_the_example_and_in_use(written: Any, variables: dict[str, str]) -> None:
    used = {match["name"] for text in texts_of(written) for match in VARIABLE.finditer(text) if match["name"]}
    assert used == set(variables)


def test_no_dollar_is_left_unread(compose: Any) -> None:
    assert [text for text in texts_of(compose) if "${" in text] == []


@pytest.mark.parametrize("name", ["POSTGRES_PASSWORD", "REDIS_PASSWORD", "MINIO_ROOT_PASSWORD", "RAY_AUTH_TOKEN"])
def test_nothing_starts_without_a_password(written: Any, variables: dict[str, str], name: str) -> None:
    with pytest.raises(KeyError, match=name):
        substitute(written, {**variables, name: ""})


def test_passwords_come_from_the_environment_alone(written: Any) -> None:
    services = written["services"].values()
    secret = re.compile(r"PASSWORD|TOKEN|SECRET|SIGNING_KEY|REDISCLI_AUTH")
    stated = [value for each in services for name, value in each.get("environment", {}).items() if secret.search(name)]
    assert len(stated) >= len(services)
    assert [value for value in stated if not re.fullmatch(r"\$\{\w+:\?[^{}]+\}", value)] == []
    assert re.findall(r"requirepass (.*)", written["configs"]["redis"]["content"]) == [
        '"${REDIS_PASSWORD:?make an .env first, see docs/deployment.md}"'
    ]


def test_example_holds_no_password_that_would_do(variables: dict[str, str]) -> None:
    secrets = {name: value for name, value in variables.items() if re.search("PASSWORD|TOKEN|KEY", name)}
    assert set(secrets.values()) == {"change-me"}


def test_documented_command_makes_an_env_with_random_passwords(variables: dict[str, str], tmp_path: Path) -> None:
    (command,) = re.findall(r"^\(umask 077;.*?> \.env\)$", DEPLOYMENT, re.MULTILINE | re.DOTALL)
    shutil.copy(ROOT / ".env.example", tmp_path)
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True, timeout=60)
    made = tmp_path / ".env"
    assert made.stat().st_mode & 0o777 == 0o600
    values = read_variables(made.read_text(encoding="utf-8"))
    random = [value for name, value in values.items() if variables[name] == "change-me"]
    assert len(set(random)) == len(random) == 5
    assert all(re.fullmatch("[0-9a-f]{48}", value) for value in random)
    assert SigningKey(values[ENVIRONMENT_VARIABLE])


def test_published_ports_are_bound_to_this_machine(compose: Any) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert ports
    assert [port for port in ports if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)] == []
    assert all("network_mode" not in service for service in compose["services"].values())


def test_images_are_pinned(compose: Any) -> None:
    images = {name: service["image"] for name, service in compose["services"].items()}
    assert [image for image in images.values() if not re.fullmatch(r"[\w./-]+:[\w.-]*\d[\w.-]*", image)] == []
    assert {images[name] for name in RAY_NODES} == {f"morphml-ray:{morphml_ray.__version__}"}


def test_every_service_tells_of_its_health(compose: Any) -> None:
    for name, service in compose["services"].items():
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), name
        assert {"interval", "timeout", "retries"} <= set(service["healthcheck"]), name


def test_services_wait_for_those_they_use(compose: Any) -> None:
    needed = {name: service.get("depends_on", {}) for name, service in compose["services"].items()}
    assert set(needed["ray-head"]) == SERVERS
    assert set(needed["ray-worker"]) == {"ray-head"}
    assert {each["condition"] for waits in needed.values() for each in waits.values()} == {"service_healthy"}


def test_data_outlive_the_containers(compose: Any) -> None:
    mounts = [compose["services"][name]["volumes"] for name in sorted(SERVERS)]
    assert {mount.partition(":")[0] for (mount,) in mounts} == set(compose["volumes"])


@pytest.mark.parametrize("node", sorted(RAY_NODES))
def test_ray_nodes_have_settings_that_are_read(compose: Any, node: str) -> None:
    ours = {name for name in compose["services"][node]["environment"] if name.startswith("MORPHML_")}
    assert set(URLS) <= ours
    assert ours - set(SETTINGS) == {ENVIRONMENT_VARIABLE}


@pytest.mark.parametrize("variable", sorted(URLS))
def test_urls_name_the_services_and_lead_to_the_passwords(
    compose: Any, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    environment = compose["services"]["ray-head"]["environment"]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    url = BackendUrl(environment[variable])
    assert not url.has_plain_secret
    resolved = url.resolve(URLS[variable])  # type: ignore[arg-type]  # the three words of Kind
    host, port = re.findall(r"(?:@|http://)([\w-]+):(\d+)", resolved)[0]
    assert host in SERVERS
    assert any(published.endswith(f":{port}") for published in compose["services"][host]["ports"])


def test_both_sides_have_the_same_passwords(compose: Any) -> None:
    services = compose["services"]
    node, minio = services["ray-worker"]["environment"], services["minio"]["environment"]
    assert node["POSTGRES_PASSWORD"] == services["postgres"]["environment"]["POSTGRES_PASSWORD"]
    assert node["AWS_ACCESS_KEY_ID"] == minio["MINIO_ROOT_USER"]
    assert node["AWS_SECRET_ACCESS_KEY"] == minio["MINIO_ROOT_PASSWORD"]
    assert node["RAY_AUTH_MODE"] == "token"


def test_image_runs_as_a_user_and_copies_what_it_may() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    (image,) = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", image)
    assert [line for line in lines if line.startswith("USER ")] == ["USER ray"]
    assert any("pip install" in line and "-c constraints.txt ." in line for line in lines)
    copied = {name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]}
    assert all((ROOT / name).exists() for name in copied)
    sent = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in sent
    assert {line[1:] for line in sent if line.startswith("!")} == copied


@pytest.mark.parametrize("name", [".env", "cluster.env"])
def test_files_with_passwords_are_ignored_by_git(name: str) -> None:
    assert name in (ROOT / ".gitignore").read_text(encoding="utf-8").split()


@pytest.fixture(scope="module")
def cluster() -> Any:
    """What ``ray up`` makes of cluster.yaml, without a connection."""
    return prepare_config(yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8")))


def test_cluster_file_is_one_that_ray_up_takes(cluster: Any) -> None:
    validate_config(cluster)
    workers = len(cluster["provider"]["worker_ips"])
    assert cluster["max_workers"] == workers
    assert [kind["min_workers"] for kind in cluster["available_node_types"].values()] == [workers]


def test_documented_settings_of_a_cluster_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"^# cluster\.env\n(.*?)^```", DEPLOYMENT, re.MULTILINE | re.DOTALL)
    settings = read_variables(block)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert {name for name in settings if name.startswith("MORPHML_")} == {*URLS, ENVIRONMENT_VARIABLE}
    config = StorageConfig()
    for kind in get_args(Kind):
        url = getattr(config, f"{kind}_url")
        assert not url.has_plain_secret
        assert url.resolve(kind)


def test_cluster_file_brings_all_that_the_package_is_built_from(cluster: Any) -> None:
    here = {local for local in cluster["file_mounts"].values() if local.startswith("./")}
    assert all((ROOT / local).exists() for local in here - {"./cluster.env"})
    copied = {"morphml_ray", "pyproject.toml", "README.md", "LICENSE", "constraints.txt"}
    assert here == {f"./{name}" for name in (*copied, "cluster.env")}
    assert {f"~/morphml_ray/{name}" for name in copied} <= set(cluster["file_mounts"])


def test_cluster_file_starts_workers_with_tokens(cluster: Any) -> None:
    (start,) = [command for command in cluster["head_start_ray_commands"] if "--head" in command]
    assert "RAY_enable_autoscaler_v2=0" in start
    assert "~/.ray/auth_token" in cluster["file_mounts"]
    assert any("RAY_AUTH_MODE=token" in command for command in cluster["setup_commands"])


def test_setup_of_a_node_adds_one_line_to_the_shell_profile(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / ".morphml_ray.env").write_text("MORPHML_CACHE_URL='redis://:env:CACHE_PASSWORD@c:6379/0'\n")
    (command,) = [command for command in cluster["setup_commands"] if ".bashrc" in command]
    for _ in range(2):
        subprocess.run(["bash", "-c", command], env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}, check=True)
    profile = (tmp_path / ".bashrc").read_text().splitlines()
    assert len(profile) == 1
    look = ". ~/.bashrc; env"
    answer = subprocess.run(
        ["bash", "-c", look],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        check=True,
        capture_output=True,
        text=True,
    )
    seen = read_variables(answer.stdout)
    assert seen["MORPHML_CACHE_URL"] == "redis://:env:CACHE_PASSWORD@c:6379/0"
    assert seen["RAY_AUTH_MODE"] == "token"
    assert seen["PATH"].startswith(f"{tmp_path}/.morphml_ray_venv/bin:")
