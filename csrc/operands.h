// Checks the operators' description of a problem and converts it to what the kernels take.

#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/string_view.h>

#include <array>
#include <optional>

#include "checks.h"
#include "common/pairing.h"

namespace simclr {

class Operands {
 public:
  // More rows of z are refused, before numbers of pairs or tiles could overflow: views of stride 0
  // have as many rows as they say. 2^32 rows would take months on the fastest GPU.
  static constexpr int64_t kMaxRows = int64_t{1} << 32;

  // NT-Xent of N pairs of views.
  static Operands nt_xent(int64_t n) {
    check_count(n, n);
    const int64_t shifts[] = {n, -n};
    return Operands(2 * n, 0, shifts, std::nullopt, std::nullopt, "all", {}, at::kCPU);
  }

  // columns: C, or 0 if the columns are the rows. See simclr_ext.h for the rest.
  Operands(int64_t rows, int64_t columns, at::IntArrayRef shifts,
           const std::optional<at::Tensor>& label, const std::optional<at::Tensor>& ignored,
           c10::string_view denominator, at::IntArrayRef owned, at::Device device)
      : problem_{{0, rows}, {0, rows}}, pairing_{columns == 0, 0, {}, nullptr} {
    check_count(rows, columns);
    const bool same = columns == 0;
    if (!same) problem_.columns = {rows, rows + columns};
    set_owned(owned);
    set_shifts(shifts);
    set_denominator(denominator);
    TORCH_CHECK_VALUE(!label || shifts.empty(), "labels need shifts = [], got ", shifts);
    label_ = row_numbers("label", label, rows + columns, device);
    ignored_ = row_numbers("ignored", ignored, rows + columns, device);
    if (label) pairing_.label = label_.const_data_ptr<int32_t>();
    if (ignored) pairing_.ignored = ignored_.const_data_ptr<int32_t>();
  }

  const Problem& problem() const { return problem_; }
  const Pairing& pairing() const { return pairing_; }
  // [count], for all rows of z, or undefined.
  const at::Tensor& label() const { return label_; }

  // The rows of z whose gradient is computed, given whether x, y and the temperature need one.
  Range wanted(std::array<bool, 3> needs_grad) const {
    const bool x = needs_grad[0] || needs_grad[2];
    if (problem_.same()) return x ? problem_.rows : Range{0, 0};
    return {x ? problem_.rows.begin : problem_.columns.begin,
            needs_grad[1] ? problem_.columns.end : problem_.rows.end};
  }

  // Selects the results of the owned rows from those of all rows of z.
  at::Tensor results(const at::Tensor& of_all) const {
    if (problem_.has_column_results()) return of_all;
    return of_all.narrow(0, problem_.rows.begin, problem_.rows.size()).clone();
  }

 private:
  static void check_count(int64_t rows, int64_t columns) {
    TORCH_CHECK_VALUE(rows <= kMaxRows && columns <= kMaxRows && rows + columns <= kMaxRows,
                      "rows and columns must be at most ", kMaxRows, " in all, got ", rows, " and ",
                      columns);
  }

  void set_owned(at::IntArrayRef owned) {
    if (owned.empty()) return;
    const int64_t rows = problem_.rows.end;
    TORCH_CHECK_VALUE(problem_.same(), "owned must be [] where y is given, got ", owned);
    TORCH_CHECK_VALUE(owned.size() == 2 && 0 <= owned[0] && owned[0] < owned[1] && owned[1] <= rows,
                      "owned must be [] or [begin, end] with 0 <= begin < end <= ", rows, ", got ",
                      owned);
    problem_.rows = {owned[0], owned[1]};
  }

  void set_shifts(at::IntArrayRef shifts) {
    TORCH_CHECK_VALUE(shifts.size() <= Pairing::kMaxShifts, "shifts must be at most ",
                      Pairing::kMaxShifts, ", got ", shifts);
    if (problem_.same()) {
      const int64_t rows = problem_.columns.end;
      TORCH_CHECK_VALUE(shifts.empty() || (shifts.size() == 2 && 0 < shifts[0] &&
                                           shifts[0] < rows && shifts[1] == -shifts[0]),
                        "shifts must be [] or [k, -k] with 0 < k < ", rows,
                        " where the rows are the columns, too, got ", shifts);
    }
    TORCH_CHECK_VALUE(shifts.size() < 2 || shifts[0] != shifts[1], "shifts must differ, got ",
                      shifts);
    // The caller's j is a column, the kernels' j a row of z. Shifts outside the matrix are dropped.
    const int64_t rows = problem_.same() ? problem_.columns.size() : problem_.rows.size();
    for (const int64_t shift : shifts) {
      if (shift <= -rows || shift >= problem_.columns.size()) continue;
      pairing_.shift[pairing_.shifts++] = problem_.columns.begin + shift;
    }
  }

  void set_denominator(c10::string_view denominator) {
    const bool negatives = denominator == "negatives";
    const bool positives = denominator == "positives";
    TORCH_CHECK_VALUE(negatives || positives || denominator == "all",
                      "denominator must be all, negatives or positives, got ", denominator);
    if (negatives) pairing_.denominator = Denominator::kNegatives;
    if (positives) pairing_.denominator = Denominator::kPositives;
  }

  // Checks numbers of the rows of z, and returns them contiguous; undefined if not given.
  static at::Tensor row_numbers(const char* name, const std::optional<at::Tensor>& numbers,
                                int64_t size, at::Device device) {
    if (!numbers) return {};
    TORCH_CHECK_TYPE(numbers->scalar_type() == at::kInt, name, " must be int32, got ",
                     numbers->dtype());
    TORCH_CHECK_VALUE(numbers->dim() == 1 && numbers->size(0) == size, name,
                      " must be [rows of z] = [", size, "], got shape ", numbers->sizes());
    TORCH_CHECK_VALUE(numbers->device() == device, name, " must be on ", device, ", got ",
                      numbers->device());
    check_data(name, *numbers);
    return numbers->contiguous();
  }

  Problem problem_;
  Pairing pairing_;
  at::Tensor label_;
  at::Tensor ignored_;
};

}  // namespace simclr
