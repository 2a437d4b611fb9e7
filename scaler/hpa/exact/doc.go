// Package exact drives the stock HPA controller beside scaler/hpa through simulated weeks, and wants both to agree at every
// reconcile: in the scale they write, the reasons of their conditions, and the metrics of the status. `make test-hpa-exact`.
//
// What of the real controller is not left to chance: maps in random order bear only on which pod an error names, which is
// not compared; the first look may come 100 ms late, so decisions are compared per look, at the look's own time; a failing
// look sleeps nowhere, because apimachinery's handlers of errors are replaced by a counter.
package exact
