// What a step launches, and into how many blocks the backward pass is cut.

#include <ATen/record_function.h>
#include <torch/types.h>

#include <memory>
#include <set>
#include <string>

#include "../cpp/check.h"
#include "cuda/host.h"
#include "cuda/strips.h"
#include "simclr_ext.h"
#include "simt.h"

namespace {

using simclr::Range;
using simclr::fused::kLargeDevice;
using simclr::fused::Strips;
using simclr::fused::TileShape;

// Of torch's operators, those that neither launch anything on a GPU nor wait for it: allocations
// and views.
const std::set<std::string> kLaunchNothing = {"aten::empty",  "aten::narrow",    "aten::slice",
                                              "aten::select", "aten::expand",    "aten::as_strided",
                                              "aten::to",     "aten::contiguous"};

std::set<std::string> launched_by_torch;

std::unique_ptr<at::ObserverContext> note(const at::RecordFunction& called) {
  const std::string name = called.name();
  if (name.rfind("aten::", 0) == 0 && !kLaunchNothing.contains(name)) {
    launched_by_torch.insert(name);
  }
  return nullptr;
}

// Expects that `run` launches so many kernels of ours, and none of torch's.
template <typename Run>
void expect_launches(const char* what, int64_t expected, const Run& run) {
  launched_by_torch.clear();
  const auto handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback(note).scopes({at::RecordScope::FUNCTION}));
  const int64_t before = simt::launches();
  run();
  at::removeCallback(handle);
  EXPECT(simt::launches() - before == expected, what, simt::launches() - before);
  for (const std::string& name : launched_by_torch) EXPECT(false, what, name);
}

void test_launches_of_nt_xent() {
  const at::Tensor z0 = torch::randn({50, 12}).to(torch::kBFloat16);
  const at::Tensor z1 = torch::randn({50, 12}).to(torch::kBFloat16);
  const at::Tensor temperature = torch::scalar_tensor(0.5, torch::kDouble);
  simclr::ForwardResult saved;
  expect_launches("forward", 3, [&] {  // rows, sums, losses
    saved = simclr::nt_xent_forward(z0, z1, temperature, true, 1e-12);
  });
  const auto& [loss, lse, z, inv_norm] = saved;
  const at::Tensor of_mean = torch::ones({}).expand({100});
  const auto backward = [&](bool needs_temperature) {
    simclr::nt_xent_backward(of_mean, loss, lse, z, inv_norm, 12, temperature, 1e-12,
                             {true, true, needs_temperature});
  };
  // Terms of the weights, partial gradients, gradients.
  expect_launches("backward", 3, [&] { backward(false); });
  expect_launches("backward with the temperature's", 3, [&] { backward(true); });
  // If the host does not know the temperature, it launches the kernels of shared shifts and those
  // of own ones: sums of both; partial gradients of both.
  const simclr::fused::NumbersInDeviceMemory guard;
  expect_launches("forward, temperature in device memory", 4,
                  [&] { saved = simclr::nt_xent_forward(z0, z1, temperature, true, 1e-12); });
  expect_launches("backward, temperature in device memory", 4, [&] { backward(true); });
}

void test_launches_of_rectangles() {
  const at::Tensor x = torch::randn({50, 12}).to(torch::kBFloat16);
  const at::Tensor y = torch::randn({70, 12}).to(torch::kBFloat16);
  const at::Tensor number = torch::scalar_tensor(0.5, torch::kDouble);
  const at::Tensor of_mean = torch::ones({}).expand({120});
  simclr::ForwardResult saved;
  const auto forward = [&](bool normalize) {
    saved = simclr::contrastive_forward(x, y, number, normalize, 1e-12, {0}, {}, {}, "all", {});
  };
  const auto backward = [&] {
    simclr::contrastive_backward(of_mean, {}, std::get<0>(saved), std::get<1>(saved),
                                 std::get<2>(saved), std::get<3>(saved), 12, 50, number, 1e-12, {0},
                                 {}, {}, "all", {}, {true, true, true});
  };
  // Each kernel has blocks for the rows and blocks for the columns.
  expect_launches("forward", 3, [&] { forward(true); });
  expect_launches("backward", 3, backward);
  expect_launches("forward, dot products", 3, [&] { forward(false); });
  expect_launches("backward, dot products", 3, backward);
  expect_launches("forward of the sigmoid loss", 3,
                  [&] { saved = simclr::sigmoid_forward(x, y, number, number, true, 1e-12, {0}); });
  expect_launches("backward of the sigmoid loss", 3, [&] {
    simclr::sigmoid_backward(of_mean.narrow(0, 0, 50), std::get<2>(saved), std::get<3>(saved), 12,
                             number, number, 1e-12, {0}, {true, true, true});
  });
  expect_launches("forward with by-products", 4,
                  [&] { simclr::contrastive_stats(x, y, number, true, 1e-12, {0}, {}, {}); });
  const simclr::fused::NumbersInDeviceMemory guard;
  expect_launches("forward, temperature in device memory", 4, [&] { forward(true); });
  expect_launches("backward, temperature in device memory", 4, backward);
  // Their rows never share a shift.
  expect_launches("forward, dot products, temperature in device memory", 3,
                  [&] { forward(false); });
  expect_launches("backward, dot products, temperature in device memory", 3, backward);
  expect_launches("forward of the sigmoid loss, scale in device memory", 3,
                  [&] { simclr::sigmoid_forward(x, y, number, number, true, 1e-12, {0}); });
}

// Of bf16 and D = 128.
constexpr TileShape kTile{.rows = 128, .columns = 64};
// Of bf16 and D = 256, in the forward pass.
constexpr TileShape kTileOf256{.rows = 128, .columns = 32};

int64_t backward_blocks(int64_t rows) {
  const Strips strips = backward_strips({0, rows}, {0, rows}, kTile, kLargeDevice);
  return simclr::divide_up(rows, kTile.rows) * strips.count;
}

// The same table as in tests/benchmarks/gpu/test_model.py.
void test_blocks_of_everyday_batches() {
  EXPECT(backward_blocks(2 * 256) == 32, backward_blocks(2 * 256));  // a block for each tile
  EXPECT(backward_blocks(2 * 512) == 128, backward_blocks(2 * 512));
  EXPECT(backward_blocks(2 * 1024) == 128, backward_blocks(2 * 1024));
  EXPECT(backward_blocks(2 * 2048) == 256, backward_blocks(2 * 2048));
  EXPECT(backward_blocks(2 * 4096) == 256, backward_blocks(2 * 4096));
  EXPECT(backward_blocks(2 * 16384) == 256, backward_blocks(2 * 16384));
  EXPECT(backward_blocks(2 * 65536) == 1024, backward_blocks(2 * 65536));  // one strip
  EXPECT(backward_blocks(2 * 1024) >= 0.9 * 132, backward_blocks(2 * 1024));
}

// A pair of strips for each block, of the upper triangle.
void test_blocks_of_the_forward_pass() {
  const auto strips = [](int64_t rows) {
    return forward_strips({0, rows}, kTile, kLargeDevice).count;
  };
  EXPECT(strips(2 * 256) == 8, strips(2 * 256));     // 36 blocks
  EXPECT(strips(2 * 512) == 16, strips(2 * 512));    // 136
  EXPECT(strips(2 * 1024) == 16, strips(2 * 1024));  // 136
  EXPECT(strips(2 * 4096) == 64, strips(2 * 4096));
  EXPECT(strips(2 * 65536) == 64, strips(2 * 65536));
  const auto size = [](int64_t rows) {
    return forward_strips({0, rows}, kTileOf256, kLargeDevice).size;
  };
  EXPECT(size(512) == 32 && size(1024) == 64 && size(1536) == 96, size(512), size(1024));
  EXPECT(size(8192) == 128, size(8192));
}

// Whatever the sizes: strips are whole tiles of columns, none is empty, and together they are the
// columns.
void test_strips_cover_the_columns() {
  for (const TileShape& tile : {kTile, kTileOf256}) {
    for (const int64_t rows : {1, 127, 128, 129, 1000, 24576, 1 << 20}) {
      for (const int64_t columns : {1, 63, 64, 65, 500, 8192, 100003, 1 << 28}) {
        const Range side{rows, rows + columns};
        const Strips backward = backward_strips({0, rows}, side, tile, kLargeDevice);
        for (const Strips& strips : {backward, forward_strips(side, tile, kLargeDevice)}) {
          EXPECT(strips.size % tile.columns == 0, rows, columns, strips.size);
          EXPECT(int64_t{strips.size} * strips.count >= columns, rows, columns, strips.count);
          EXPECT(int64_t{strips.size} * (strips.count - 1) < columns, rows, columns, strips.count);
        }
        const int64_t blocks = simclr::divide_up(rows, tile.rows) * backward.count;
        EXPECT(backward.count == 1 || blocks <= 1024, rows, columns, blocks);  // 64 KiB each
      }
    }
  }
}

}  // namespace

int main() {
  test_launches_of_nt_xent();
  test_launches_of_rectangles();
  test_blocks_of_everyday_batches();
  test_blocks_of_the_forward_pass();
  test_strips_cover_the_columns();
  return failures;
}
