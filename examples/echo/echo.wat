;; Returns its input (abi bytes): the smallest module with alloc and map.
(module
  (memory (export "memory") 1)
  (global $top (mut i32) (i32.const 16))

  ;; Returns the address of n fresh bytes; every shard gets a fresh instance, so nothing is freed.
  (func (export "alloc") (param $n i32) (result i32)
    (local $at i32) (local $missing i32)
    (local.set $at (global.get $top))
    (global.set $top (i32.add (global.get $top) (local.get $n)))
    (local.set $missing
      (i32.sub
        (i32.shr_u (i32.add (global.get $top) (i32.const 65535)) (i32.const 16))
        (memory.size)))
    (if (i32.gt_s (local.get $missing) (i32.const 0))
      (then
        (if (i32.eq (memory.grow (local.get $missing)) (i32.const -1))
          (then (unreachable)))))
    (local.get $at))

  ;; Returns the result's address in the upper and its length in the lower 32 bits.
  (func (export "map") (param $at i32) (param $n i32) (result i64)
    (i64.or
      (i64.shl (i64.extend_i32_u (local.get $at)) (i64.const 32))
      (i64.extend_i32_u (local.get $n)))))
