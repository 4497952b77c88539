// One chart of a report as inline SVG: a value over the layers, a line per curve with its interval as a band.
#pragma once

#include <string>
#include <vector>

#include "io/html_report.h"

namespace sonde {

enum class ChartValue { accuracy, auc };

// Curves keep their colour class c0..c7 by their place in `curves`.
std::string render_chart(const std::vector<const ReportCurve*>& curves, ChartValue value);

}  // namespace sonde
