// Values of edits that differ from token to token.
#pragma once

#include <filesystem>
#include <memory>

#include "models/edit.h"

namespace sonde {

// Rows of a file's tensor [n, width]: the k-th token that the edit chooses of a document takes row k, and it
// must choose n. `where` names the edit in errors.
std::shared_ptr<const EditRows> rows_of_tensor(OwnedTensor rows, std::string where);

// Rows that another run recorded at a site, document by document: those of the same positions; where the
// store has not all of these but as many as the edit chooses, the k-th for the k-th.
std::shared_ptr<const EditRows> rows_of_store(const std::filesystem::path& store, const std::string& site,
                                              std::int64_t width, RowShape shape, std::string where);

// The mean row of a site of a store, f32 [1, width].
OwnedTensor mean_of_store(const std::filesystem::path& store, const std::string& site);

}  // namespace sonde
