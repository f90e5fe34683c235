# Thin: each target is a script that can also be run by hand.
.PHONY: demo lab os test test-long soak fuzz bench setup clean

demo: ## install what is missing, build, mount the teaching lab, check it with real tools, boot it
	scripts/demo.sh

lab: ## a lab over NFS: serve, download, boot, edit, upgrade, take down, beside the classic way; LAB=debian: with a whole Debian
	scripts/lab.sh

os: ## the same with a whole Debian: unpack it, mount it, boot it read-write, log in, check what it left
	scripts/os.sh

test: ## formatting, lints, all five tiers of tests
	scripts/test.sh

test-long: ## the same with more generated cases and the tests that take minutes
	scripts/test.sh --long

soak: ## an hour of edits under readers, with counters
	scripts/soak.sh

fuzz: ## each fuzzer for ten minutes
	scripts/fuzz.sh

bench: ## figures of time and memory, printed
	scripts/bench.sh

setup: ## install what the commands above need (Debian)
	scripts/setup.sh test

clean: ## remove what was built, downloaded and generated
	rm -rf target examples/lab/generated
	for made in examples/os/generated examples/nfs-lab/generated; do [ ! -e "$$made" ] || rm -rf "$$made" || sudo rm -rf "$$made"; done
