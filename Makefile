# Thin: each target is a script that can also be run by hand.
.PHONY: demo test test-long bench setup clean

demo: ## install what is missing, build, mount the teaching lab, check it with real tools, boot it
	scripts/demo.sh

test: ## formatting, lints, all five tiers of tests
	scripts/test.sh

test-long: ## the same with more generated cases and the tests that take minutes
	scripts/test.sh --long

bench: ## figures of time and memory, printed
	scripts/bench.sh

setup: ## install what the two commands above need (Debian)
	scripts/setup.sh test

clean: ## remove what was built, downloaded and generated
	rm -rf target examples/lab/generated
