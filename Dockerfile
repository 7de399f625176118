# A Ray node with morphml_ray; docker-compose.yml says what it runs.
FROM python:3.12.12-slim-bookworm

RUN useradd --create-home --uid 1000 ray

WORKDIR /opt/morphml_ray
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY morphml_ray ./morphml_ray
# ray[default] adds the dashboard and "ray job submit".
RUN pip install --no-cache-dir -c constraints.txt . "ray[default]"

USER ray
WORKDIR /home/ray
CMD ["ray", "start", "--head", "--dashboard-host=0.0.0.0", "--disable-usage-stats", "--block"]
