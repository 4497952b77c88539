// Captured rows on their way from the stages of a pipeline to the rank that writes them.
#pragma once

#include <string>

#include "distributed/communicator.h"
#include "io/activation_store.h"
#include "models/stage.h"
#include "runtime/capture_sink.h"

namespace sonde {

// Of a stage that does not write: gathers a batch's rows and sends them as one message.
class CaptureSender : public CaptureSink {
 public:
  // in_flight: batches that this stage may be ahead of the writer.
  CaptureSender(Communicator& model, int writer, int in_flight)
      : model_(model), writer_(writer), in_flight_(in_flight) {}
  void put(Site site, Tensor rows, std::int64_t row0) override;
  void end_batch();

 private:
  Communicator& model_;
  const int writer_, in_flight_;
  std::string rows_;
  std::size_t largest_ = 0;
};

// At most held by a rank of a stage that does not write: of the batch it runs, of up to two for each stage
// behind it, and of the one that the writer runs. batch_rows: recorded of a batch.
std::int64_t rows_under_way(const StoreSchema& schema, const Stage& stage, std::int64_t batch_rows);

// The next batch's rows of one stage, into the writer's sink.
void receive_captures(Communicator& model, int from, CaptureSink& sink);

}  // namespace sonde
