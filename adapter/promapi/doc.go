// Package promapi speaks the Prometheus HTTP API, on both sides of the wire.
//
// Server answers it from a storage.Queryable: what Grafana, promtool and Prometheus' own clients ask for in order to
// query. It follows Prometheus 3.16 in paths, parameters, JSON and status codes; what is no query (targets, configuration,
// administration, writing) is not there, and there are no rules, alerts or exemplars to list.
//
// Client asks a Prometheus-compatible server (Prometheus, Thanos, Mimir, VictoriaMetrics, or Server).
//
// # Guarantees of the server
//
//   - A handler for one namespace answers as if no series of other namespaces existed, whatever the request says. It does
//     not rewrite expressions for that: the engine and all listings read through one Select, which adds the matcher.
//   - A request is bounded before it can harm the process, which has better things to do: length and depth of the
//     expression, how far its label functions make labels grow, series examined, samples held, time, size of the
//     answer, and how many requests run at once. A regular expression of a request is never tried under the store's lock.
//   - It authenticates nobody: mount it behind something that does.
//
// # Guarantees of the client
//
//   - An answer that may be partial is an error unless ClientOptions.AllowPartial says otherwise: a sum over the pods that
//     one store happened to know would look like a drop of load.
//   - An error is one line that names the URL, the status, the server's error type and its message; never a credential.
//   - NaN and infinities arrive as they were sent. Native histograms are refused: their JSON does not carry enough to make
//     them again.
package promapi
