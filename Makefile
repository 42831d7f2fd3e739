# Names what there is to run; how it is done stands in .ci/ and in cargo.

.PHONY: help demo test test-system bench

help:
	@echo "make demo         build the hub and try it with simulated devices"
	@echo "make test         formatting, lints, and the tests of hub and UI"
	@echo "make test-system  tests of the built program against other programs"
	@echo "make bench        benchmarks"

demo:
	.ci/setup build && cargo run --release --locked -- demo

test:
	.ci/setup test && .ci/test

test-system:
	.ci/setup system && .ci/test-system

bench:
	.ci/setup test && cargo bench --locked
