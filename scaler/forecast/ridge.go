package forecast

import "gonum.org/v1/gonum/mat"

// ridge is linear regression by normal equations whose observations fade, with a penalty that pulls to a prior. Adding is cheap;
// solving is done now and then. (Recursive least squares with forgetting gives the same and winds up when inputs stand still.)
type ridge struct {
	n       int // inputs
	keep    float64
	penalty float64
	prior   []float64
	xx      []float64 // n×n, the lower triangle
	xy      []float64
	weight  float64
	beta    []float64
	work    ridgeWork
}

type ridgeWork struct {
	sym   *mat.SymDense
	right *mat.VecDense
	out   *mat.VecDense
	chol  mat.Cholesky
}

// newRidge makes a regression of n inputs whose observations fade to 1/e after memory of them.
func newRidge(n int, memory, penalty float64, prior []float64) ridge {
	r := ridge{n: n, keep: 1 - 1/memory, penalty: penalty, prior: make([]float64, n), xx: make([]float64, n*n), xy: make([]float64, n), beta: make([]float64, n)}
	copy(r.prior, prior)
	copy(r.beta, prior)
	return r
}

func (r *ridge) clear() {
	clear(r.xx)
	clear(r.xy)
	r.weight = 0
	copy(r.beta, r.prior)
}

// add takes in an observation of a weight.
func (r *ridge) add(x []float64, y, weight float64) {
	for i, xi := range x {
		xi *= weight
		row := r.xx[i*r.n : i*r.n+i+1]
		for j := range row {
			row[j] = r.keep*row[j] + xi*x[j]
		}
		r.xy[i] = r.keep*r.xy[i] + xi*y
	}
	r.weight = r.keep*r.weight + weight
}

// solve computes the coefficients of the first n inputs; where that fails numerically, they stay.
func (r *ridge) solve(n int) {
	w := &r.work
	if w.sym == nil || w.sym.SymmetricDim() != n {
		w.sym, w.right, w.out = mat.NewSymDense(n, nil), mat.NewVecDense(n, nil), mat.NewVecDense(n, nil)
	}
	trace := 0.0
	for i := range n {
		trace += r.xx[i*r.n+i]
	}
	// The penalty counts as so many observations of a typical input, so that the scale of inputs does not matter.
	penalty := r.penalty * (trace/float64(n)/max(1, r.weight) + 1e-12)
	for i := range n {
		for j := range i + 1 {
			v := r.xx[i*r.n+j]
			if i == j {
				v += penalty
			}
			w.sym.SetSym(i, j, v)
		}
		w.right.SetVec(i, r.xy[i]+penalty*r.prior[i])
	}
	if !w.chol.Factorize(w.sym) {
		return
	}
	if err := w.chol.SolveVecTo(w.out, w.right); err != nil {
		return // nearly singular: the old coefficients are better than none
	}
	clear(r.beta)
	copy(r.beta, w.out.RawVector().Data)
}

// of applies the coefficients.
func (r *ridge) of(x []float64) (y float64) {
	for i, xi := range x {
		y += r.beta[i] * xi
	}
	return y
}
