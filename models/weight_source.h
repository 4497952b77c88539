// Where weights come from, read as far as a rank holds them: of a file, no other bytes are touched.
#pragma once

#include <memory>
#include <vector>

#include "kernels/backend.h"
#include "models/tensor_shard.h"
#include "models/tensor_table.h"

namespace sonde {

// A tensor's values in float32, wherever they come from: a file, or a random generator.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  virtual void read(const TensorRow& row, const Slab& slab,
                    Tensor out /*f32, the slab's rows x columns*/) = 0;
  // The slab's rows as they are stored, or none where they can only be read: their type is not a quantised
  // one, or the slab's columns cut blocks.
  virtual std::vector<RawRow> raw_rows(const TensorRow&, const Slab&) { return {}; }
  virtual void check(const TensorRow&, const Slab&) {}  // that values which nobody reads now are numbers
};

std::unique_ptr<WeightSource> file_weights(const ModelFiles& files, std::int64_t experts);
std::unique_ptr<WeightSource> random_weights(std::uint64_t seed);

}  // namespace sonde
