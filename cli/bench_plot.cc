#include "bench_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <vector>

#include "machine.h"
#include "megamoe/error.h"
#include "output.h"

namespace megamoe::cli {
namespace {

constexpr double kWidth = 960, kHeight = 440;
constexpr double kTop = 84, kBottom = 372;  // of the axes
constexpr double kPanel = 376;              // width of one
constexpr const char* kColours[] = {"#1f5fa8", "#c4601d", "#3b8a3e", "#8a3b86"};

// A range of values over a range of pixels.
struct Axis {
  double low, high;   // of the values
  double begin, end;  // of the pixels
  bool logarithmic;

  double operator()(double value) const {
    const auto place = [&](double v) { return logarithmic ? std::log(v) : v; };
    const double span = place(high) - place(low);
    return begin + (span > 0.0 ? (place(value) - place(low)) / span : 0.5) * (end - begin);
  }
};

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) out += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : std::string(1, c);
  return out;
}

std::string text_at(double x, double y, const char* anchor, const std::string& text, const char* more = "") {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" {}>{}</text>\n", x, y, anchor, more,
                     escaped(text));
}

std::string line(double x1, double y1, double x2, double y2, const char* colour) {
  return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\"/>\n", x1, y1, x2, y2,
                     colour);
}

struct Point {
  double x, y;
};

struct Curve {
  std::string name;
  std::vector<Point> points;
};

using Value = std::function<double(const BenchResult&)>;

// One a routing, in the order of the results.
std::vector<Curve> curves(const BenchRecord& record, const Value& value) {
  std::vector<Curve> all;
  for (const BenchResult& result : record.results) {
    if (all.empty() || all.back().name != result.routing) all.push_back({result.routing, {}});
    all.back().points.push_back({static_cast<double>(result.measured.tokens), value(result)});
  }
  return all;
}

std::string draw(const std::vector<Curve>& all, const Axis& x, const Axis& y, bool dashed) {
  std::string svg;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const char* colour = kColours[i % std::size(kColours)];
    std::string path;
    for (const Point& p : all[i].points)
      path += fmt::format("{}{:.1f} {:.1f} ", path.empty() ? "M" : "L", x(p.x), y(p.y));
    svg += fmt::format("<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"{}/>\n", path, colour,
                       dashed ? " stroke-dasharray=\"2 5\" opacity=\"0.8\"" : "");
    if (dashed) continue;
    for (const Point& p : all[i].points)
      svg += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.5\" fill=\"{}\"/>\n", x(p.x), y(p.y), colour);
  }
  return svg;
}

std::string frame(const Axis& x, const Axis& y, const std::string& title, const BenchRecord& record,
                  const std::vector<double>& ticks, const std::function<std::string(double)>& label) {
  std::string svg = text_at(x.begin, kTop - 16, "start", title, "class=\"title\"");
  for (const double tick : ticks) {
    svg += line(x.begin, y(tick), x.end, y(tick), "#e3e3e3");
    svg += text_at(x.begin - 8, y(tick) + 4, "end", label(tick));
  }
  std::vector<std::int64_t> tokens;
  for (const BenchResult& result : record.results) tokens.push_back(result.measured.tokens);
  std::sort(tokens.begin(), tokens.end());
  double last = -1e9;
  for (const std::int64_t count : tokens) {
    const double at = x(static_cast<double>(count));
    if (at - last < 34) continue;  // labels would overlap
    last = at;
    svg += line(at, y.begin, at, y.begin + 5, "#444");
    svg += text_at(at, y.begin + 20, "middle", fmt::format("{}", count));
  }
  svg += line(x.begin, y.begin, x.end, y.begin, "#444");
  return svg + text_at((x.begin + x.end) / 2, y.begin + 42, "middle", "tokens of a call");
}

std::vector<double> powers_of_ten(double low, double high) {
  std::vector<double> ticks;
  for (double decade = std::pow(10.0, std::floor(std::log10(low))); decade <= high * 1.001; decade *= 10)
    for (const double factor : {1.0, 3.0})
      if (decade * factor >= low * 0.999 && decade * factor <= high * 1.001) ticks.push_back(decade * factor);
  return ticks;
}

std::vector<double> even_ticks(double high) {
  std::vector<double> ticks;
  const double step = high > 2.5 ? 1.0 : high > 1.2 ? 0.5 : 0.2;
  for (int i = 0; i * step <= high && i < 20; ++i) ticks.push_back(i * step);
  return ticks;
}

std::string legend(const std::vector<Curve>& all, bool has_floor) {
  std::string svg;
  double x = 72;
  for (std::size_t i = 0; i < all.size(); ++i) {
    svg += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" fill=\"{}\"/>\n", x, kHeight - 10,
                       kColours[i % std::size(kColours)]);
    svg += text_at(x + 10, kHeight - 6, "start", all[i].name);
    x += 30 + 7.0 * static_cast<double>(all[i].name.size());
  }
  return has_floor ? svg + text_at(x, kHeight - 6, "start",
                                   "dotted: the floor, reading every weight once or multiplying at the peak")
                   : svg;
}

}  // namespace

void write_bench_plot(const BenchRecord& record, const std::string& path) {
  const auto time = [](const BenchResult& r) { return r.measured.median_s; };
  const auto floor = [](const BenchResult& r) { return r.measured.floor_s(); };
  const auto share = [](const BenchResult& r) { return r.measured.floor_s() / r.measured.median_s; };
  double fewest = 1e18, most = 1, low = 1e18, high = 0, largest_share = 1;
  bool has_floor = true;
  for (const BenchResult& result : record.results) {
    fewest = std::min(fewest, static_cast<double>(result.measured.tokens));
    most = std::max(most, static_cast<double>(result.measured.tokens));
    has_floor &= floor(result) > 0.0;
    largest_share = std::max(largest_share, share(result));  // above 1 where weights stay in a cache
    low = std::min(low, floor(result) > 0.0 ? floor(result) : time(result));
    high = std::max(high, time(result));
  }
  const auto tokens_axis = [&](double begin) { return Axis{fewest, most, begin + 12, begin + kPanel - 12, true}; };
  const Axis left = tokens_axis(72);
  const Axis right = tokens_axis(72 + kPanel + 96);
  const Axis seconds{low * 0.8, high * 1.25, kBottom, kTop, true};
  const Axis shares{0.0, 1.05 * largest_share, kBottom, kTop, false};

  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" "
      "font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n<style>.title{{font-weight:bold;font-size:14px}}"
      "</style>\n<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n",
      kWidth, kHeight);
  svg +=
      text_at(72, 24, "start", (record.shape.empty() ? "" : record.shape + ": ") + record.problem, "class=\"title\"");
  svg +=
      text_at(72, 42, "start", fmt::format("{}; {}", record.plan, record.floors ? record.floors->device : cpu_model()));
  svg += frame(left, seconds, "Time of a layer, median", record, powers_of_ten(seconds.low, seconds.high), human_time);
  svg += frame(right, shares, "Share of the floor", record, even_ticks(shares.high),
               [](double tick) { return number(tick, 1); });
  if (has_floor) {
    svg += draw(curves(record, floor), left, seconds, true);
    svg += draw(curves(record, share), right, shares, false);
  } else {
    svg += text_at((right.begin + right.end) / 2, (kTop + kBottom) / 2, "middle", "no floor was measured");
  }
  svg += draw(curves(record, time), left, seconds, false) + legend(curves(record, time), has_floor) + "</svg>\n";

  std::ofstream file(path, std::ios::binary);
  file << svg;
  file.close();
  if (!file) throw Error(Code::kBadFile, path, ": could not be written");
}

}  // namespace megamoe::cli
