// Package rightsizing holds the recommender's end-to-end test: metrics-server reads the usage that KWOK simulates, the
// controller recommends, and the stock Vertical Pod Autoscaler's updater and admission controller act on it. It has a lab of
// its own and takes minutes: `make test-recommender-lab`.
package rightsizing
