#!/bin/sh
# Stands in for cargo in tests/front.rs: does what the test says.
eval "$STAND_IN"
