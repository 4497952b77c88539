#include "tests/bench/matmul_onednn.h"

#include <oneapi/dnnl/dnnl.hpp>

namespace sonde::bench {

std::function<void()> onednn_matmul(float* y, float* x, float* w, int m, int n, int k) {
  using namespace dnnl;
  using Tag = memory::format_tag;
  const engine cpu(engine::kind::cpu, 0);
  stream queue(cpu);
  const auto f32 = memory::data_type::f32;
  const memory::desc xs({m, k}, f32, Tag::ab), ws({k, n}, f32, Tag::ba), any({k, n}, f32, Tag::any),
      ys({m, n}, f32, Tag::ab);
  const matmul::primitive_desc how(matmul::desc(xs, any, ys), cpu);
  memory given(ws, cpu, w), packed(how.weights_desc(), cpu);
  reorder(given, packed).execute(queue, given, packed);
  queue.wait();
  const matmul multiply(how);
  const memory from(xs, cpu, x), to(ys, cpu, y);
  return [=]() mutable {
    multiply.execute(queue, {{DNNL_ARG_SRC, from}, {DNNL_ARG_WEIGHTS, packed}, {DNNL_ARG_DST, to}});
    queue.wait();
  };
}

}  // namespace sonde::bench
