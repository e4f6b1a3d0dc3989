// The multipliers of a PE: the exact sum over LANES of a times b, DEPTH - 1 pipeline registers behind it.
// OUT_BITS must be A_BITS + B_BITS + 2 + $clog2(LANES).
module product #(
    parameter A_BITS = 8,
    parameter A_SIGNED = 1,
    parameter B_BITS = 8,
    parameter B_SIGNED = 1,
    parameter LANES = 1,
    parameter DEPTH = 1,
    parameter OUT_BITS = 18
) (
    input wire clk,
    input wire reset,
    input wire [LANES*A_BITS-1:0] a,
    input wire [LANES*B_BITS-1:0] b,
    output wire signed [OUT_BITS-1:0] out
);
    reg signed [OUT_BITS-1:0] exact;
    reg signed [OUT_BITS-1:0] x;
    reg signed [OUT_BITS-1:0] y;
    integer i;
    always @* begin
        exact = {OUT_BITS{1'b0}};
        x = {OUT_BITS{1'b0}};
        y = {OUT_BITS{1'b0}};
        for (i = 0; i < LANES; i = i + 1) begin
            x = {{(OUT_BITS-A_BITS){(A_SIGNED != 0) && a[i*A_BITS + A_BITS - 1]}}, a[i*A_BITS +: A_BITS]};
            y = {{(OUT_BITS-B_BITS){(B_SIGNED != 0) && b[i*B_BITS + B_BITS - 1]}}, b[i*B_BITS +: B_BITS]};
            exact = exact + x * y;
        end
    end
    delay #(.BITS(OUT_BITS), .CYCLES(DEPTH - 1)) stages (.clk(clk), .reset(reset), .in(exact), .out(out));
endmodule
