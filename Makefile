# `make help` lists the targets. Their logic is in scripts/.
.DEFAULT_GOAL := help
.PHONY: help run demo test bench tools verify verify-edge rollout stack picture instructions docs fmt lint sqlx-prepare

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## build and start the service on an embedded database, without any setup
	@scripts/build-needs
	cargo run --locked -- serve

demo: ## act as a client of the running service, or start one: make demo ARGS="--help"
	@scripts/build-needs
	@cargo build --locked --bins --example demo
	@cargo run --locked --quiet --example demo -- $(ARGS)

test: ## check formatting, dependencies, lints, all tests on SQLite and Postgres, and the query cache
	@scripts/build-needs
	@scripts/test

tools: ## install the pinned tools for verify into .tools/
	@scripts/tools

verify: ## check rules, alerts, collector, dashboards, chart and image with the real tools
	@scripts/verify $(ARGS)

verify-edge: ## attack the public listener from outside, and fuzz the API by its description
	@scripts/verify-edge $(ARGS)

rollout: ## replace every process under load behind HAProxy: no request may fail (two minutes)
	@scripts/verify 80-rollout

stack: ## start service, Postgres, collector, Prometheus and Alertmanager here, without containers
	@scripts/stack

picture: ## draw the dashboards and the live page from a service under load into docs/images/
	@scripts/pictures

bench: ## measure the cost of the platform relative to bare axum (release build, two cores)
	@scripts/build-needs
	POSTGRES_DURABLE=yes scripts/postgres run -- cargo bench --locked --bench http

instructions: ## count the instructions of a request by layer, and compare with the budget: ARGS="--help"
	@scripts/build-needs
	@scripts/instructions $(ARGS)

docs: ## write the generated documents again (metrics, configuration, errors, OpenAPI)
	UPDATE_DOCUMENTS=1 cargo test --locked --quiet --test it documents::

fmt: ## format the sources
	cargo fmt --all

lint: ## check the lints, warnings denied
	cargo clippy --workspace --locked --all-targets -- -D warnings

sqlx-prepare: ## write the query cache .sqlx/ again, after a query or a migration changed
	@scripts/sqlx-prepare
