// A GGUF file: metadata, tensors, the spec and tensor table that follow from it, and blocks of every type.
#include "kernels/backend.h"
#include "models/end_tokens.h"
#include "models/family.h"
#include "tests/fuzz/input.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sonde;
  static const fuzz::Folder folder;
  static const auto backend = make_cpu_backend();
  const auto file = folder.write("model.gguf", fuzz::Input(data, size).bytes);
  return fuzz::refuse_or_read([&] {
    const ModelFiles files = ModelFiles::open(file);
    for (const FileTensor& tensor : files.tensors()) {
      fuzz::touch(tensor.view);
      if (!is_quantised(tensor.view.dtype)) continue;
      const OwnedTensor values = make_tensor(DType::f32, {tensor.view.count()});
      backend->dequantise(values.view, tensor.view);
    }
    end_tokens(files);
    const ModelSpec spec = read_spec(files, {});
    check_tensors(files, tensors_of(files, spec), spec);
  });
}
