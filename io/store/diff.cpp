// diff_stores: what "identical" means, whatever the shard boundaries.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "io/store/index.h"
#include "io/store/manifest.h"
#include "runtime/error.h"

namespace sonde {
namespace {

constexpr std::size_t kMostDifferences = 10;

class Diff {
 public:
  Diff(const std::filesystem::path& a, const std::filesystem::path& b, double tolerance)
      : a_(StoreReader::open(a)), b_(StoreReader::open(b)), tolerance_(tolerance) {}

  std::vector<std::string> run() {
    compare_identity();
    compare_documents();
    if (compare_shapes()) {
      compare_metadata();
      for (std::size_t site = 0; site < a_->sites().size() && !full(); ++site)
        tolerance_ > 0 ? compare_site_nearly(site) : compare_site(site);
    }
    return std::move(differences_);
  }

 private:
  bool full() const { return differences_.size() >= kMostDifferences; }
  void add(std::string difference) {
    if (!full()) differences_.push_back(std::move(difference));
  }

  void compare_identity() {
    const auto text =
        first_difference(a_->manifest().value("identity", Json()), b_->manifest().value("identity", Json()));
    // Written for found and expected; here they are the two stores.
    if (!text.empty()) add("identity: " + text + " (found in the first store, expected by the second)");
  }

  void compare_documents() {
    const auto &a = a_->documents(), &b = b_->documents();
    if (a.size() != b.size()) return add(fmt::format("documents: {} and {}", a.size(), b.size()));
    for (std::size_t i = 0; i < a.size(); ++i)
      if (a[i].id != b[i].id || a[i].tokens != b[i].tokens)
        return add(fmt::format("document {}: id '{}' of {} tokens and id '{}' of {} tokens", i, a[i].id,
                               a[i].tokens, b[i].id, b[i].tokens));
  }

  bool compare_shapes() {
    const std::size_t before = differences_.size();
    if (a_->dtype() != b_->dtype())
      add(fmt::format("dtype: {} and {}", name(a_->dtype()), name(b_->dtype())));
    if (a_->rows() != b_->rows()) add(fmt::format("rows: {} and {}", a_->rows(), b_->rows()));
    if (a_->sites().size() != b_->sites().size())
      add(fmt::format("sites: {} and {}", a_->sites().size(), b_->sites().size()));
    for (std::size_t i = 0; i < std::min(a_->sites().size(), b_->sites().size()); ++i) {
      const StoreSite &x = a_->sites()[i], &y = b_->sites()[i];
      if (x.name != y.name)
        add(fmt::format("site {}: {} and {}", i, x.name, y.name));
      else if (x.row_shape != y.row_shape)
        add(fmt::format("site {}: rows of shape {} and {}", x.name, Json(x.row_shape).dump(),
                        Json(y.row_shape).dump()));
    }
    return differences_.size() == before;
  }

  template <class T>
  void compare_column(const char* column, const std::vector<T>& a, const std::vector<T>& b) {
    const auto [x, y] = std::ranges::mismatch(a, b);
    if (x != a.end()) add(fmt::format("row {}: {} {} and {}", x - a.begin(), column, *x, *y));
  }
  void compare_metadata() {
    compare_column("document", a_->row_document(), b_->row_document());
    compare_column("position", a_->row_position(), b_->row_position());
    compare_column("token", a_->row_token(), b_->row_token());
  }

  void compare_site(std::size_t site) {
    const StoreSite& shape = a_->sites()[site];
    const std::int64_t width = bytes_of(a_->dtype(), shape.width());
    const std::int64_t piece = std::max<std::int64_t>(1, (std::int64_t{4} << 20) / width);
    std::vector<std::byte> x(static_cast<std::size_t>(piece * width)), y(x.size());
    for (std::int64_t first = 0; first < a_->rows(); first += piece) {
      const std::int64_t n = std::min(piece, a_->rows() - first);
      a_->read_raw(site, first, n, x.data());
      b_->read_raw(site, first, n, y.data());
      const auto bytes = static_cast<std::size_t>(n * width);
      if (std::memcmp(x.data(), y.data(), bytes) == 0) continue;
      const auto at =
          std::mismatch(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(bytes), y.begin()).first -
          x.begin();
      const std::int64_t row = first + at / width, column = at % width / info(a_->dtype()).block_bytes;
      std::vector<float> u(static_cast<std::size_t>(shape.width())), v(u.size());
      a_->read(site, row, 1, u.data());
      b_->read(site, row, 1, v.data());
      const auto c = static_cast<std::size_t>(column);
      add(fmt::format("site {}, row {}, column {}: {} and {}", shape.name, row, column, u[c], v[c]));
      break;
    }
    compare_statistics(site, a_->statistics(site), b_->statistics(site));
  }

  // The whole site's relative Frobenius distance; entries that aren't finite must be the same.
  void compare_site_nearly(std::size_t site) {
    const StoreSite& shape = a_->sites()[site];
    const std::int64_t piece = std::max<std::int64_t>(1, (std::int64_t{1} << 20) / shape.width());
    std::vector<float> x(static_cast<std::size_t>(piece * shape.width())), y(x.size());
    double distance = 0, size = 0;
    for (std::int64_t first = 0; first < a_->rows(); first += piece) {
      const std::int64_t n = std::min(piece, a_->rows() - first);
      a_->read(site, first, n, x.data());
      b_->read(site, first, n, y.data());
      for (std::size_t i = 0; i < static_cast<std::size_t>(n * shape.width()); ++i) {
        const double u = x[i], v = y[i];
        if (std::isfinite(u) && std::isfinite(v)) {
          distance += (u - v) * (u - v), size += u * u;
        } else if (u != v && !(std::isnan(u) && std::isnan(v))) {
          return add(fmt::format("site {}, row {}: {} and {}", shape.name,
                                 first + static_cast<std::int64_t>(i) / shape.width(), u, v));
        }
      }
    }
    const double relative = size > 0 ? std::sqrt(distance / size) : std::sqrt(distance);
    if (relative > tolerance_)
      add(fmt::format("site {}: relative distance {:.3g}, expected at most {:.3g}", shape.name, relative,
                      tolerance_));
  }

  void compare_statistics(std::size_t site, const SiteStatistics& a, const SiteStatistics& b) {
    const std::string& name = a_->sites()[site].name;
    if (a.count != b.count) add(fmt::format("statistics of {}: count {} and {}", name, a.count, b.count));
    const auto compare = [&](const char* what, const std::vector<double>& x, const std::vector<double>& y) {
      for (std::size_t c = 0; c < x.size(); ++c)
        if (std::memcmp(&x[c], &y[c], sizeof(double)) != 0)
          return add(fmt::format("statistics of {}: {} of column {}: {} and {}", name, what, c, x[c], y[c]));
    };
    compare("mean", a.mean, b.mean);
    compare("mean square", a.mean_square, b.mean_square);
    compare("max abs", a.max_abs, b.max_abs);
  }

  std::unique_ptr<StoreReader> a_, b_;
  double tolerance_;  // 0: every bit
  std::vector<std::string> differences_;
};

}  // namespace

std::vector<std::string> diff_stores(const std::filesystem::path& a, const std::filesystem::path& b,
                                     double tolerance) {
  return Diff(a, b, tolerance).run();
}

}  // namespace sonde
