#include "ops/gemm.hpp"

#include "glassformer/core/require.hpp"
#include "glassformer/ops/linear.hpp"
#ifdef GLASSFORMER_HAVE_ONEDNN
#include <dnnl.h>
#include <omp.h>
#endif

namespace glassformer::ops {
namespace {

template <class S> void gemm_eigen(const Gemm<S>& g) {
  using Stride = Eigen::OuterStride<>;
  using Map = Eigen::Map<const Matrix<S>, 0, Stride>;
  const Map a(g.a, g.transpose_a ? g.k : g.m, g.transpose_a ? g.m : g.k, Stride(g.lda));
  const Map b(g.b, g.transpose_b ? g.n : g.k, g.transpose_b ? g.k : g.n, Stride(g.ldb));
  Eigen::Map<Matrix<S>, 0, Stride> c(g.c, g.m, g.n, Stride(g.ldc));
  if (g.beta == S(0)) {
    c.setZero();
  } else if (g.beta != S(1)) {
    c *= g.beta;
  }
  if (g.transpose_a && g.transpose_b) {
    c.noalias() += g.alpha * a.transpose() * b.transpose();
  } else if (g.transpose_a) {
    c.noalias() += g.alpha * a.transpose() * b;
  } else if (g.transpose_b) {
    c.noalias() += g.alpha * a * b.transpose();
  } else {
    c.noalias() += g.alpha * a * b;
  }
}

#ifdef GLASSFORMER_HAVE_ONEDNN
// oneDNN runs as many threads as OpenMP would give it, unless told that one is enough.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) {
    if (before_ != 1) omp_set_num_threads(1);
  }
  ~OneThread() {
    if (before_ != 1) omp_set_num_threads(before_);
  }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};
#endif

}  // namespace

template <> void gemm<double>(const Gemm<double>& g) { gemm_eigen(g); }

#ifdef GLASSFORMER_HAVE_ONEDNN
template <> void gemm<float>(const Gemm<float>& g) {
  if (g.m == 0 || g.n == 0 || g.k == 0) return gemm_eigen(g);  // oneDNN refuses empty matrices
  const OneThread guard;
  const dnnl_status_t status = dnnl_sgemm(g.transpose_a ? 'T' : 'N', g.transpose_b ? 'T' : 'N', g.m, g.n, g.k, g.alpha, g.a, g.lda, g.b, g.ldb, g.beta, g.c, g.ldc);
  require(status == dnnl_success, "oneDNN: sgemm of [{}, {}, {}] failed with status {}", g.m, g.n, g.k, static_cast<int>(status));
}
const char* multiply_backend() { return "oneDNN"; }
#else
template <> void gemm<float>(const Gemm<float>& g) { gemm_eigen(g); }
const char* multiply_backend() { return "Eigen"; }
#endif

}  // namespace glassformer::ops
