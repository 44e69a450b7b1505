;; Sums a shard of 32-bit integers (abi i32-array).
;;
;; The sandbox writes the shard at address 0 as packed little-endian i32, growing the memory
;; if it has to, and calls sum(0, number of elements). The sum of one shard wraps at 32 bits;
;; the job's sum over all shards does not.
(module
  (memory (export "memory") 1)
  (func (export "sum") (param $at i32) (param $left i32) (result i32)
    (local $sum i32)
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $left)))
        (local.set $sum (i32.add (local.get $sum) (i32.load (local.get $at))))
        (local.set $at (i32.add (local.get $at) (i32.const 4)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $next)))
    (local.get $sum)))
