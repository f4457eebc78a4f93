// XLA's handlers of the operators, for JAX on the CPU. Tensors that share XLA's buffers go in; the
// results are copied into its buffers.
//
// JAX has no float64 unless asked, but the operators' lse is always double: to XLA it is bytes, as
// uint32 [2N, 2].

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/from_blob.h>

#include <array>
#include <cstring>
#include <exception>
#include <tuple>

#include "cpu/parallel.h"
#include "simclr_ext.h"
#include "xla/ffi/api/ffi.h"

namespace simclr {
namespace {

namespace ffi = xla::ffi;
using Buffer = ffi::AnyBuffer;
using Output = ffi::Result<ffi::AnyBuffer>;

// Finds an operator by its name; the library that defines it has been loaded.
template <typename Function>
auto find_operator(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Function>();
}

at::ScalarType dtype_of(const Buffer& buffer) {
  return buffer.element_type() == ffi::DataType::F64 ? at::kDouble : at::kFloat;
}

// Shares the buffer, which the operators only read.
at::Tensor as_tensor(const Buffer& buffer) {
  const Buffer::Dimensions sizes = buffer.dimensions();
  return at::from_blob(buffer.untyped_data(), {sizes.begin(), sizes.size()}, dtype_of(buffer));
}

at::Tensor lse_as_tensor(const Buffer& buffer) {
  return at::from_blob(buffer.untyped_data(), {buffer.dimensions()[0]}, at::kDouble);
}

double read_scalar(const Buffer& buffer) {
  return dtype_of(buffer) == at::kDouble ? *static_cast<const double*>(buffer.untyped_data())
                                         : *static_cast<const float*>(buffer.untyped_data());
}

void write_scalar(double value, const Buffer& buffer) {
  if (dtype_of(buffer) == at::kDouble) {
    *static_cast<double*>(buffer.untyped_data()) = value;
  } else {
    *static_cast<float*>(buffer.untyped_data()) = static_cast<float>(value);
  }
}

// A tensor whose elements are all `value`, which must outlive it: at small N, the operations that
// would fill one take longer than the rest of a handler.
at::Tensor filled(at::IntArrayRef sizes, double& value) {
  const std::array<int64_t, 1> strides{};
  return at::from_blob(&value, sizes, at::IntArrayRef(strides).slice(0, sizes.size()),
                       at::TensorOptions(at::kDouble));
}

void write(const at::Tensor& result, const Buffer& buffer) {
  TORCH_INTERNAL_ASSERT(result.is_contiguous() && result.nbytes() == buffer.size_bytes());
  std::memcpy(buffer.untyped_data(), result.const_data_ptr(), result.nbytes());
}

// Calls compute(); an exception must not reach XLA.
template <typename Compute>
ffi::Error guarded(const Compute& compute) {
  try {
    const PlainDispatch guard;
    compute();
    return ffi::Error::Success();
  } catch (const c10::Error& error) {
    return ffi::Error::InvalidArgument(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return ffi::Error::Internal(error.what());
  }
}

ForwardResult call_forward(const Buffer& z0, const Buffer& z1, const at::Tensor& temperature,
                           bool normalize, double eps) {
  static const auto op = find_operator<decltype(nt_xent_forward)>("simclr_ext::nt_xent_forward");
  return op.call(as_tensor(z0), as_tensor(z1), temperature, normalize, eps);
}

void call_backward(const at::Tensor& grad_loss, const at::Tensor& loss, const at::Tensor& lse,
                   const at::Tensor& z, const at::Tensor& inv_norm, const at::Tensor& temperature,
                   double eps, const Buffer& grad_z0, const Buffer& grad_z1,
                   const Buffer& grad_temperature) {
  using Backward = std::tuple<at::Tensor, at::Tensor>(
      const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
      c10::SymInt, const at::Tensor&, double, std::array<bool, 3>);
  static const auto op = find_operator<Backward>("simclr_ext::nt_xent_backward");
  const auto [grad_z, of_temperature] =
      op.call(grad_loss, loss, lse, z, inv_norm, z.size(1), temperature, eps, {true, true, true});
  const int64_t n = z.size(0) / 2;
  write(grad_z.narrow(0, 0, n), grad_z0);
  write(grad_z.narrow(0, n, n), grad_z1);
  write_scalar(*of_temperature.const_data_ptr<double>(), grad_temperature);
}

ffi::Error forward(Buffer z0, Buffer z1, Buffer temperature, Output loss, Output lse, Output z,
                   Output inv_norm, bool normalize, double eps) {
  return guarded([&] {
    double t = read_scalar(temperature);
    const auto [of_loss, of_lse, of_z, of_inv_norm] =
        call_forward(z0, z1, filled({}, t), normalize, eps);
    write(of_loss, *loss);
    write(of_lse, *lse);
    write(of_z, *z);
    write(of_inv_norm, *inv_norm);
  });
}

ffi::Error backward(Buffer grad_loss, Buffer loss, Buffer lse, Buffer z, Buffer inv_norm,
                    Buffer temperature, Output grad_z0, Output grad_z1, Output grad_temperature,
                    double eps) {
  return guarded([&] {
    double t = read_scalar(temperature);
    call_backward(as_tensor(grad_loss), as_tensor(loss), lse_as_tensor(lse), as_tensor(z),
                  as_tensor(inv_norm), filled({}, t), eps, *grad_z0, *grad_z1, *grad_temperature);
  });
}

// The losses, and the gradients of `weight` times their sum.
ffi::Error loss_and_gradients(Buffer z0, Buffer z1, Buffer temperature, Output loss, Output grad_z0,
                              Output grad_z1, Output grad_temperature, bool normalize, double eps,
                              double weight) {
  return guarded([&] {
    double value = read_scalar(temperature);
    const at::Tensor t = filled({}, value);
    const auto [of_loss, lse, z, inv_norm] = call_forward(z0, z1, t, normalize, eps);
    write(of_loss, *loss);
    call_backward(filled(of_loss.sizes(), weight), of_loss, lse, z, inv_norm, t, eps, *grad_z0,
                  *grad_z1, *grad_temperature);
  });
}

}  // namespace
}  // namespace simclr

using xla::ffi::AnyBuffer;
using xla::ffi::Ffi;

XLA_FFI_DEFINE_HANDLER_SYMBOL(simclr_ext_nt_xent_forward, simclr::forward,
                              Ffi::Bind()
                                  .Arg<AnyBuffer>()  // z0 [N, D]
                                  .Arg<AnyBuffer>()  // z1 [N, D]
                                  .Arg<AnyBuffer>()  // temperature []
                                  .Ret<AnyBuffer>()  // loss [2N]
                                  .Ret<AnyBuffer>()  // lse [2N, 2]
                                  .Ret<AnyBuffer>()  // z [2N, D]
                                  .Ret<AnyBuffer>()  // inv_norm [2N], or [0] if not normalized
                                  .Attr<bool>("normalize")
                                  .Attr<double>("eps"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(simclr_ext_nt_xent_backward, simclr::backward,
                              Ffi::Bind()
                                  .Arg<AnyBuffer>()  // grad_loss [2N]
                                  .Arg<AnyBuffer>()  // loss [2N]
                                  .Arg<AnyBuffer>()  // lse [2N, 2]
                                  .Arg<AnyBuffer>()  // z [2N, D]
                                  .Arg<AnyBuffer>()  // inv_norm [2N] or [0]
                                  .Arg<AnyBuffer>()  // temperature []
                                  .Ret<AnyBuffer>()  // grad_z0 [N, D]
                                  .Ret<AnyBuffer>()  // grad_z1 [N, D]
                                  .Ret<AnyBuffer>()  // grad_temperature []
                                  .Attr<double>("eps"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(simclr_ext_nt_xent_loss_and_gradients, simclr::loss_and_gradients,
                              Ffi::Bind()
                                  .Arg<AnyBuffer>()  // z0 [N, D]
                                  .Arg<AnyBuffer>()  // z1 [N, D]
                                  .Arg<AnyBuffer>()  // temperature []
                                  .Ret<AnyBuffer>()  // loss [2N]
                                  .Ret<AnyBuffer>()  // grad_z0 [N, D]
                                  .Ret<AnyBuffer>()  // grad_z1 [N, D]
                                  .Ret<AnyBuffer>()  // grad_temperature []
                                  .Attr<bool>("normalize")
                                  .Attr<double>("eps")
                                  .Attr<double>("weight"));
