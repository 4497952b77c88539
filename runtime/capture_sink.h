// Where captured activations go. The forward knows only this; io's activation store implements it.
#pragma once

#include <cstdint>

#include "runtime/hook.h"
#include "runtime/packed_rows.h"

namespace sonde {

// How a site's rows are packed, and the sums of the batch's rows so far (of the host).
struct Packing {
  PackFormat format;
  PackedSums sums;
};

class CaptureSink {
 public:
  virtual ~CaptureSink() = default;
  // true: rows come where the backend computes, for a sink that gives them to ops; false: to the host.
  virtual bool takes_device_rows() const { return false; }
  // rows: f32 [n, ...], the selected tokens [row0, row0 + n) of the current batch, at one site. The sink
  // copies what it keeps before it returns. For RowShape::HS the last dim may be shorter than the store's S:
  // the sink pads keys with -inf (scores) or 0 (pattern).
  virtual void put(Site site, Tensor rows, std::int64_t row0) = 0;
  // Where there is one the backend packs the site's rows, and they come to put_packed, those of a batch in
  // order. Their sums may be the packing's own.
  virtual std::optional<Packing> packing(Site) { return std::nullopt; }
  virtual void put_packed(Site, const PackedRows& /*of the host*/, std::int64_t /*row0*/) {}
};

}  // namespace sonde
