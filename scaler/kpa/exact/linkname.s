// An assembly file lets knative_test.go declare functions without bodies.
