// Tensors on a backend's device that live as long as their maker, with values that are no NaN in any format.
#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <random>
#include <vector>

#include "kernels/backend.h"

namespace sonde::test {

class DeviceTensors {
 public:
  explicit DeviceTensors(Backend& backend) : backend_(backend) {}

  Tensor empty(DType dtype, std::initializer_list<std::int64_t> shape) {
    std::int64_t count = 1;
    for (const std::int64_t n : shape) count *= n;
    memory_.push_back(backend_.allocate(bytes_of(dtype, count)));
    return memory_.back().tensor(dtype, shape);
  }
  Tensor random(std::initializer_list<std::int64_t> shape) {
    OwnedTensor host = make_tensor(DType::f32, shape);
    std::normal_distribution<float> normal;
    for (std::int64_t i = 0; i < host.view.count(); ++i) host.view.f32()[i] = normal(random_);
    return placed(host.view);
  }
  Tensor listed(const std::vector<float>& values, std::initializer_list<std::int64_t> shape) {
    OwnedTensor host = make_tensor(DType::f32, shape);
    std::copy(values.begin(), values.end(), host.view.f32());
    return placed(host.view);
  }
  Tensor raw(DType dtype, std::initializer_list<std::int64_t> shape) { return placed(host_of(dtype, shape)); }

  // [n, k], in its format where that is one of blocks
  std::unique_ptr<Weight> weight(DType dtype, std::int64_t n, std::int64_t k) {
    const Tensor rows = host_of(dtype, {n, k});
    const Precision precision = dtype == DType::bf16 ? Precision::bf16 : Precision::f32;
    std::vector<RawRow> raw;
    for (std::int64_t r = 0; r < n; ++r) raw.push_back({rows.data + r * bytes_of(dtype, k), dtype});
    return backend_.keep_weight(raw, k, precision);
  }

 private:
  // Bytes of 0x31: small numbers in every type.
  Tensor host_of(DType dtype, std::initializer_list<std::int64_t> shape) {
    std::int64_t count = 1;
    for (const std::int64_t n : shape) count *= n;
    memory_.emplace_back(bytes_of(dtype, count));
    std::memset(memory_.back().data(), 0x31, static_cast<std::size_t>(bytes_of(dtype, count)));
    return memory_.back().tensor(dtype, shape);
  }
  Tensor placed(Tensor host) {
    memory_.emplace_back();
    return backend_.on_device(host, memory_.back());
  }

  Backend& backend_;
  std::deque<Buffer> memory_;
  std::mt19937 random_{3};
};

}  // namespace sonde::test
