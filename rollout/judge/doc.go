// Package judge compares the new version of a service with the old one while both serve, and says Pass, Fail or Inconclusive at
// every look, with the figures behind it. It does no IO and reads no clock: the caller brings what the metric plane knows.
//
// # What may be relied on
//
//   - Fail of a statistical metric: where new is no worse than old, the chance that any look of the whole rollout says Fail is at
//     most Spec.Alpha (shared between the metrics), however often one looks and however unequal the arms are. Besides, the best
//     estimate must lie beyond the allowed margin: a difference that is certain but allowed fails nobody.
//   - Pass: where new is worse than the margin allows, the chance that any look passes it is at most Spec.Beta for each metric.
//   - No data, NaN, counters that went back, an absent arm, layouts that do not match: Inconclusive, with the reason. They never
//     pass and never fail.
//   - A Fail stays; a Pass must hold at the look that says it.
//   - No look alone decides: what one look may add to the evidence is capped at a factor of 20.
//
// # How
//
// Errors, and requests slower than a bucket's bound, are one thing: marked requests. Of e marked requests in an interval, where a
// share θ of all requests went to new, new has x. Were both alike, x would be binomial (e, θ), or narrower. With r times the rate,
// the odds are r times as large, and the interval's likelihood ratio is r^x / (1−θ+θr)^e. Products of it over intervals are test
// martingales, also where θ is another in each interval: every interval is its own stratum, so weights may change, and whatever
// hits both versions (load, time of day, a failing dependency) cancels. The evidence is the mean of such products over a fixed
// grid of r (for a constant θ this is the beta-binomial Bayes factor with another prior), and over the time at which the
// deterioration began (half of it on the first look, the rest spread over all later ones), so that a version that turns bad after
// an hour is found, too. By Ville's inequality a true null exceeds 1/α at some time with probability ≤ α. See Howard, Ramdas et al.,
// arXiv:1810.08240; Lindon et al., arXiv:2205.14762; Ramdas et al., arXiv:2210.01948.
//
// Latency is tested at the bucket bounds nearest to the pooled 0.5, 0.75, 0.9, 0.95 and 0.99 quantiles and at the judged one. Given
// the pooled histogram, which requests were new's is chance where both are alike, so choosing the bounds from it costs nothing. A
// ratio of the rates over a bound becomes a ratio of quantiles by the slope of old's tail there, log-log between neighbouring
// bounds, which for latencies errs towards a smaller margin, so towards Inconclusive.
//
// Errors that are too few for a ratio pass by the difference: time-uniform bounds of both rates (beta mixtures, closed form).
//
// # Autocorrelation
//
// The bounds above hold where marked requests are independent, given what both arms share. Bursts within one pod, and pods that
// differ, make counts wider than binomial. How much is estimated from the old pods, in at most sixteen groups: Pearson's χ² of them
// against each other, over blocks of 1, 2, 4, 8 and 16 looks, so that slow waves count, too, and over the whole time, with what so few
// pods leave open added. The largest divides the log-likelihood. This is a correction, no proof: `make bench-rollout`
// measures what it is worth. Where old is one pod or a sum, the two arms around the running estimate have to do, which takes a version
// that gets worse in between for noise; so give pods where there are any. One new pod on a bad node cannot be told from a bad
// version by anybody: with new pods on several nodes the judge is surer.
package judge
