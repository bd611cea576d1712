"""A step: allocates on the GPU it got, multiplies matrices for three seconds, checks the result. Nothing but libcuda is needed."""

import ctypes
import os
import sys
import time

N = 256
KERNEL = b"""
.version 6.0
.target sm_50
.address_size 64
.visible .entry product(.param .u64 a, .param .u64 b, .param .u64 c, .param .u32 n)
{
    .reg .pred %p<3>;
    .reg .f32 %f<4>;
    .reg .u32 %r<12>;
    .reg .u64 %d<10>;
    ld.param.u64 %d1, [a];
    ld.param.u64 %d2, [b];
    ld.param.u64 %d3, [c];
    ld.param.u32 %r1, [n];
    cvta.to.global.u64 %d1, %d1;
    cvta.to.global.u64 %d2, %d2;
    cvta.to.global.u64 %d3, %d3;
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.u32 %r5, %r2, %r3, %r4;
    mul.lo.u32 %r6, %r1, %r1;
    setp.ge.u32 %p1, %r5, %r6;
    @%p1 bra DONE;
    div.u32 %r7, %r5, %r1;
    rem.u32 %r8, %r5, %r1;
    mov.f32 %f1, 0f00000000;
    mov.u32 %r9, 0;
LOOP:
    mad.lo.u32 %r10, %r7, %r1, %r9;
    mul.wide.u32 %d4, %r10, 4;
    add.u64 %d5, %d1, %d4;
    ld.global.f32 %f2, [%d5];
    mad.lo.u32 %r11, %r9, %r1, %r8;
    mul.wide.u32 %d6, %r11, 4;
    add.u64 %d7, %d2, %d6;
    ld.global.f32 %f3, [%d7];
    fma.rn.f32 %f1, %f2, %f3, %f1;
    add.u32 %r9, %r9, 1;
    setp.lt.u32 %p2, %r9, %r1;
    @%p2 bra LOOP;
    mul.wide.u32 %d8, %r5, 4;
    add.u64 %d9, %d3, %d8;
    st.global.f32 [%d9], %f1;
DONE:
    ret;
}
"""


def main(out):
    cuda = ctypes.CDLL("libcuda.so.1")

    def call(name, *words):
        code = getattr(cuda, name)(*words)
        if code:
            sys.exit(f"{name}: CUDA error {code}")

    call("cuInit", 0)
    count, device, context = ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p()
    call("cuDeviceGetCount", ctypes.byref(count))
    call("cuDeviceGet", ctypes.byref(device), 0)
    name = ctypes.create_string_buffer(100)
    call("cuDeviceGetName", name, 100, device)
    call("cuCtxCreate_v2", ctypes.byref(context), 0, device)
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    call("cuModuleLoadData", ctypes.byref(module), KERNEL + b"\0")
    call("cuModuleGetFunction", ctypes.byref(function), module, b"product")
    size = N * N * 4
    places = [ctypes.c_uint64() for _ in range(3)]
    for place in places:
        call("cuMemAlloc_v2", ctypes.byref(place), ctypes.c_size_t(size))
    floats = ctypes.c_float * (N * N)
    left, right = floats(*[(i % 7) for i in range(N * N)]), floats(*[(i % 5) for i in range(N * N)])
    call("cuMemcpyHtoD_v2", places[0], left, ctypes.c_size_t(size))
    call("cuMemcpyHtoD_v2", places[1], right, ctypes.c_size_t(size))
    number = ctypes.c_uint(N)
    words = (ctypes.c_void_p * 4)(*[ctypes.cast(ctypes.pointer(item), ctypes.c_void_p) for item in (*places, number)])
    began, launches = time.time(), 0
    while time.time() - began < 3:
        call("cuLaunchKernel", function, N * N // 128, 1, 1, 128, 1, 1, 0, None, words, None)
        call("cuCtxSynchronize")
        launches += 1
    result = floats()
    call("cuMemcpyDtoH_v2", result, places[2], ctypes.c_size_t(size))
    for row, column in ((0, 0), (3, 200), (N - 1, N - 1)):
        wanted = sum(left[row * N + k] * right[k * N + column] for k in range(N))
        if result[row * N + column] != wanted:
            sys.exit(f"element ({row}, {column}) is {result[row * N + column]}, expected {wanted}")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "unset")
    with open(out, "w") as file:
        file.write(f"{began:f} {time.time():f} {launches} {count.value} {visible} {name.value.decode()}")


main(sys.argv[1])
